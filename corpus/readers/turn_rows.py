"""Turn rows: reads conversations from rows that hold one turn each, in any order.

The rows of a conversation have the same conversation id, or each row names the row that it replies to
(ConvoKit). A tree of replies becomes one conversation for each path from its root to a leaf. In each path but
the first, the turns that an earlier path has too are only context, so no reply is learnt twice.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.readers.records import ORDERS, Row, Unusable, role_of, text_of, weight_of
from corpus.readers.turns import Conversation, Turn

TEXT_KEYS = ("text", "utterance", "content", "message", "body")
SPEAKER_KEYS = (
    "speaker",
    "role",
    "user",
    "author",
    "sender",
    "agent",
    "from",
    "name",
    "speaker_id",
    "user_id",
)
CONVERSATION_KEYS = (
    "conversation_id", "root", "dialogue_id", "dialog_id", "conv_id", "conversation", "dialogue", "dialog",
    "thread_id", "session_id", "chat_id", "ticket_id",
)  # fmt: skip
REPLY_KEYS = ("reply-to", "reply_to", "parent_id", "parent", "in_reply_to")
ORDER_KEYS = (*ORDERS, "turn_number", "timestamp", "time", "date", "created_at")
GROUP_KEYS = ("group", "movie_id", "movie_idx", "film", "customer_id")
REMOVED = ("[deleted]", "[removed]")  # what a site shows where a text was

CIRCLE = "its chain of replies is a circle"
NO_CONVERSATION = "it belongs to no conversation"


@dataclass
class TurnRow:
    """One row: a turn, and what says where it belongs."""

    line: int
    id: str
    turn: Turn
    conversation: str
    reply_to: str
    order: float | str | None
    group: str
    raw: str = ""
    replies: list["TurnRow"] = field(default_factory=list)


def is_turn_row(value: Any) -> bool:
    """Whether a value has the form of a row with one turn."""
    if not isinstance(value, dict):
        return False
    membership = _first(value, CONVERSATION_KEYS) or _first(value, REPLY_KEYS)
    return _first(value, TEXT_KEYS) is not None and membership is not None


def read_row(value: Row, line: int, raw: str = "") -> TurnRow:
    """The turn of a row.

    Raises:
        Unusable: the row has no text column, or its text is of a wrong type.
    """
    text_key = _first(value, TEXT_KEYS)
    if text_key is None:
        raise Unusable("it has no text")
    text = text_of(value[text_key]) or ""
    name = _text(value, SPEAKER_KEYS)
    role = role_of(_text(value, ("role",)) or name)
    metadata = value.get("meta")
    own = {**metadata, **value} if isinstance(metadata, dict) else value
    return TurnRow(
        line=line,
        id=_text(value, ("id", "utterance_id", "line_id")),
        turn=Turn(
            speaker=name or role or "unknown",
            text="" if text.strip() in REMOVED else text,
            role=role,
            weight=weight_of(value),
        ),
        conversation=_text(value, CONVERSATION_KEYS),
        reply_to=_text(value, REPLY_KEYS),
        order=_order(value),
        group=_text(own, GROUP_KEYS),
        raw=raw,
    )


def conversations_of(rows: Sequence[TurnRow], unusable: list[tuple[TurnRow, str]]) -> Iterator[Conversation]:
    """Yield the conversations of the rows.

    Args:
        unusable: rows that belong to no conversation are appended, each with the cause.
    """
    by_id = {row.id: row for row in rows if row.id}
    parents = [by_id.get(row.reply_to) if row.reply_to else None for row in rows]
    for row, parent in zip(rows, parents, strict=True):
        if parent is not None and parent is not row:
            parent.replies.append(row)
    single: list[TurnRow] = []
    roots: list[TurnRow] = []
    for row, parent in zip(rows, parents, strict=True):
        if parent is None or parent is row:
            (roots if row.replies else single).append(row)
    yield from _by_order(single, unusable)
    for root in roots:
        yield from _paths(root)
    unusable += [(row, CIRCLE) for row in _unreached(rows, [*single, *roots])]


def _by_order(rows: list[TurnRow], unusable: list[tuple[TurnRow, str]]) -> Iterator[Conversation]:
    conversations: dict[str, list[TurnRow]] = defaultdict(list)
    for row in rows:
        if row.conversation:
            conversations[row.conversation].append(row)
        else:
            unusable.append((row, NO_CONVERSATION))
    for name, members in conversations.items():
        kinds = {type(row.order) for row in members}
        if len(kinds) == 1 and kinds != {type(None)}:
            members.sort(key=lambda row: row.order)  # type: ignore[arg-type,return-value]
        yield Conversation(name, [row.turn for row in members], members[0].group or name)


def _paths(root: TurnRow) -> Iterator[Conversation]:
    """Yield a conversation for each path from the root to a leaf, in the order of the replies."""
    name = root.conversation or root.id
    used: set[int] = set()
    number = 0
    stack: list[list[TurnRow]] = [[root]]
    while stack:
        path = stack.pop()
        while path[-1].replies:
            first, *others = path[-1].replies
            stack += [[*path, other] for other in reversed(others)]
            path = [*path, first]
        number += 1
        turns = []
        for row in path:
            is_new = id(row) not in used
            used.add(id(row))
            turns.append(row.turn if is_new else _as_context(row.turn))
        yield Conversation(name if number == 1 else f"{name}/path {number}", turns, root.group or name)


def _as_context(turn: Turn) -> Turn:
    return Turn(turn.speaker, turn.text, turn.role, 0.0)


def _unreached(rows: Sequence[TurnRow], roots: list[TurnRow]) -> list[TurnRow]:
    """The rows that no root leads to, because each of them replies to another one in a circle."""
    reached: set[int] = set()
    stack = list(roots)
    while stack:
        row = stack.pop()
        reached.add(id(row))
        stack += row.replies
    return [row for row in rows if id(row) not in reached]


def _order(value: Row) -> float | str | None:
    """What the turns of a conversation are sorted by; None if the file's own order counts."""
    for key in ORDER_KEYS:
        order = value.get(key)
        if isinstance(order, str) and order.strip():
            try:
                return float(order)
            except ValueError:
                return order
        if isinstance(order, int | float) and not isinstance(order, bool):
            return float(order)
        if order is not None and hasattr(order, "isoformat"):
            return str(order.isoformat())
    return None


def _first(value: Row, keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in value), None)


def _text(value: Row, keys: tuple[str, ...]) -> str:
    """The first of the keys' values that is not empty, as text."""
    for key in keys:
        found = value.get(key)
        if isinstance(found, dict):  # ConvoKit's old files have an object for a speaker
            found = found.get("id") or found.get("name")
        if isinstance(found, str | int | float) and str(found).strip():
            return str(found).strip()
    return ""
