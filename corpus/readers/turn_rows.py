"""Turn rows: reads conversations from rows that hold one turn each, in any order.

The rows of a conversation have the same conversation id, or each row names the row that it replies to
(ConvoKit). A tree of replies becomes one conversation for each path from its root to a leaf. In each path but
the first, the turns that an earlier path has too are only context, so no reply is learnt twice.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.readers.messages import (
    GROUPS,
    TOOL_CALLS,
    Row,
    Unusable,
    first_key,
    role_of,
    text_of,
    weight_of,
    with_assistant,
)
from corpus.readers.records import CONVERSATION_IDS, id_in
from corpus.readers.turn_order import in_order, order_values
from corpus.readers.turns import TOOL, Conversation, Turn

TEXT_KEYS = ("text", "utterance", "content", "message", "body")
SPEAKER_KEYS = (
    "speaker", "role", "user", "author", "sender", "agent", "from", "name", "speaker_id", "user_id",
)  # fmt: skip
CONVERSATION_KEYS = (
    "conversation_id", "message_tree_id", "root", *CONVERSATION_IDS[1:], "conversation", "dialogue", "dialog",
    "chat_id", "ticket_id",
)  # fmt: skip
ID_KEYS = ("id", "message_id", "utterance_id", "line_id")
REPLY_KEYS = ("reply-to", "reply_to", "parent_id", "parent", "in_reply_to")
REMOVED = ("[deleted]", "[removed]")  # what a site shows where a text was
CONTEXT_TURNS = 32  # so many turns of an earlier path at most are repeated as the context of a later one

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
    order: dict[str, Any]
    """What the row may be sorted by, from `order_values`."""
    group: str
    raw: str = ""
    replies: list["TurnRow"] = field(default_factory=list)


def is_turn_row(value: Any) -> bool:
    """Whether a value has the form of a row with one turn."""
    if not isinstance(value, dict):
        return False
    membership = first_key(value, CONVERSATION_KEYS) or first_key(value, REPLY_KEYS)
    return first_key(value, TEXT_KEYS) is not None and membership is not None


def read_row(value: Row, line: int, raw: str = "") -> TurnRow:
    """The turn of a row.

    Raises:
        Unusable: the row has no text column, or its text is of a wrong type.
    """
    text_key = first_key(value, TEXT_KEYS)
    is_call = any(value.get(key) for key in TOOL_CALLS) and not (text_key and value[text_key])
    if text_key is None and not is_call:
        raise Unusable("it has no text")
    text = (text_of(value[text_key]) or "") if text_key else ""
    name = id_in(value, SPEAKER_KEYS)
    role = TOOL if is_call else role_of(id_in(value, ("role",)) or name)
    metadata = value.get("meta")
    own = {**metadata, **value} if isinstance(metadata, dict) else value
    return TurnRow(
        line=line,
        id=id_in(value, ID_KEYS),
        turn=Turn(
            speaker=name or role,
            text="" if text.strip() in REMOVED or role == TOOL else text,
            role=role,
            weight=weight_of(value),
        ),
        conversation=id_in(value, CONVERSATION_KEYS),
        reply_to=id_in(value, REPLY_KEYS),
        order=order_values(value),
        group=id_in(own, GROUPS),
        raw=raw,
    )


def conversations_of(rows: Sequence[TurnRow], unusable: list[tuple[TurnRow, str]]) -> Iterator[Conversation]:
    """Yield the conversations of the rows.

    Args:
        unusable: rows that belong to no conversation are appended, each with the cause.
    """
    parents = _parents(rows)
    for row, parent in zip(rows, parents, strict=True):
        if parent is not None:
            parent.replies.append(row)
    single: list[TurnRow] = []
    roots: list[TurnRow] = []
    for row, parent in zip(rows, parents, strict=True):
        if parent is None:
            (roots if row.replies else single).append(row)
    for name, members in _by_conversation(single, unusable).items():
        group = next((row.group for row in members if row.group), "")
        yield Conversation(name, with_assistant([row.turn for row in members]), group)
    for root in roots:
        yield from _paths(root)
    reached = {id(row) for row in _reached([*single, *roots])}
    unusable += [(row, CIRCLE) for row in rows if id(row) not in reached]


def _parents(rows: Sequence[TurnRow]) -> list[TurnRow | None]:
    """The row that each row replies to: one of its own conversation, or the only one with this id."""
    known: dict[tuple[str, str], TurnRow] = {}
    for row in rows:
        known.setdefault((row.conversation, row.id), row)
    numbers = Counter(row.id for row in rows)
    alone = {row.id: row for row in rows if numbers[row.id] == 1}
    parents: list[TurnRow | None] = []
    for row in rows:
        parent = None
        if row.reply_to:
            # A row without a conversation may belong to any of them.
            parent = known.get((row.conversation, row.reply_to)) or known.get(("", row.reply_to))
            if parent is None and not row.conversation:
                parent = alone.get(row.reply_to)
        parents.append(None if parent is row else parent)
    return parents


def _by_conversation(
    rows: Sequence[TurnRow], unusable: list[tuple[TurnRow, str]]
) -> dict[str, list[TurnRow]]:
    conversations: dict[str, list[TurnRow]] = defaultdict(list)
    for row in rows:
        if row.conversation:
            conversations[row.conversation].append(row)
        else:
            unusable.append((row, NO_CONVERSATION))
    for name, members in conversations.items():
        order = in_order([row.order for row in members])
        conversations[name] = [members[i] for i in order] if order else members
    return conversations


def _paths(root: TurnRow) -> Iterator[Conversation]:
    """Yield a conversation for each path from the root to a leaf, in the order of the replies."""
    members = list(_reached([root]))
    turns = with_assistant([row.turn for row in members])
    turn_of = {id(row): turn for row, turn in zip(members, turns, strict=True)}
    name = root.conversation or root.id
    group = next((row.group for row in members if row.group), name)
    number, new = 1, 0
    path: list[Turn] = []
    stack = [(root, 0)]
    while stack:
        row, depth = stack.pop()
        if depth < len(path):  # the turns before this one belong to an earlier path, too
            del path[depth:]
            new = depth
        path.append(turn_of[id(row)])
        stack += [(reply, depth + 1) for reply in reversed(row.replies)]
        if not row.replies:
            context = [turn._replace(weight=0.0) for turn in path[max(0, new - CONTEXT_TURNS) : new]]
            own_name = name if number == 1 else f"{name}/path {number}"
            yield Conversation(own_name, [*context, *path[new:]], group)
            number += 1


def _reached(roots: Sequence[TurnRow]) -> Iterator[TurnRow]:
    """Yield the rows that the replies to these rows lead to, each row before its replies."""
    stack = list(roots)
    while stack:
        row = stack.pop()
        yield row
        stack += reversed(row.replies)
