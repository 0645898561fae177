"""Records: reads a conversation from one object or list of a JSON file, or from one row of a table.

A record holds a whole conversation: a list of messages under a known key, or one exchange (a question and its
answer) in two columns. docs/corpora.md shows an example of each form.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from corpus.readers.turns import ASSISTANT, ROLES, SYSTEM, TOOL, USER, Conversation, Turn

LISTS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "thread", "utterances", "turns",
)  # fmt: skip
VAGUE_LISTS = ("content", "chat", "data")  # keys that hold a list of messages only if nothing else does
TEXTS = ("content", "value", "text", "message", "utterance", "body")
SPEAKERS = ("role", "from", "speaker", "agent", "author", "sender", "user", "name", "id")
ORDERS = ("index", "turn", "turn_id", "turn_index", "position")
EXCHANGES = (
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "chosen"), ("instruction", "output"),
    ("instruction", "response"), ("question", "answer"), ("question", "response"), ("context", "response"),
    ("context", "reply"), ("input", "output"), ("input", "response"), ("query", "response"),
    ("query", "answer"), ("source", "target"), ("user", "assistant"), ("human", "assistant"),
    ("human", "bot"), ("message", "reply"), ("post", "reply"),
)  # fmt: skip
IDS = ("conversation_id", "dialogue_id", "dialog_id", "conv_id", "thread_id", "id")
GROUPS = ("group", "movie_id", "user_id", "customer_id")

Row = dict[str, Any]


class Unusable(Exception):
    """A record is not a conversation, or a part of it cannot be used; the message is the cause."""

    def __init__(self, cause: str, turns: list[Turn] | None = None) -> None:
        super().__init__(cause)
        self.turns = turns or []
        """The turns that are lost because of this cause."""


def is_conversation(value: Any) -> bool:
    """Whether a value has the form of a conversation or of an exchange."""
    if isinstance(value, list):
        return len(value) > 0 and all(_is_message(each) for each in value)
    return isinstance(value, dict) and (_list_key(value) is not None or _exchange(value) is not None)


def is_exchange(value: Any) -> bool:
    """Whether a value has the form of one exchange: a question and its answer."""
    return isinstance(value, dict) and _list_key(value) is None and _exchange(value) is not None


def parts_of(value: Any, key: str = "") -> Iterator[tuple[Any, str]]:
    """Yield the records that a value consists of, each with its key: several if it is a list of records.

    Args:
        key: the key of the value in its file; "" if it has none.
    """
    inner = value
    if isinstance(value, dict) and (list_key := _list_key(value)):
        inner = value[list_key]
    is_collection = isinstance(inner, list) and not all(map(_is_message, inner))
    if is_collection and any(map(is_conversation, inner)):
        for number, each in enumerate(inner, 1):
            yield from parts_of(each, f"{key}/{number}" if key else "")
    else:
        yield value, key


def read_record(value: Any, default_id: str) -> Conversation:
    """The conversation in a record.

    Args:
        default_id: the id of a conversation that has none itself.

    Raises:
        Unusable: the record is not a conversation, or a text or a role cannot be read.
    """
    if isinstance(value, list):
        return Conversation(default_id, _turns(value))
    if not isinstance(value, dict):
        raise Unusable(f"a JSON {_type_name(value)}, not an object or a list of messages")
    name = _id_of(value) or default_id
    group = next((str(value[each]) for each in GROUPS if value.get(each)), "")
    if list_key := _list_key(value):
        return Conversation(name, [*_system(value), *_turns(_list(value[list_key]))], group)
    if exchange := _exchange(value):
        return Conversation(name, _exchange_turns(value, *exchange), group)
    raise Unusable(unknown_keys(value))


def unknown_keys(value: Row) -> str:
    """The cause for an object without any of the known keys."""
    keys = [ascii(str(key)[:40])[1:-1] for key in value]
    shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    which = f"the keys {shown}" if len(keys) > 1 else f"the key {shown}" if keys else "no keys"
    return f"it has {which}; none of them is messages, conversations, text, prompt, question, ..."


def text_of(value: Any) -> str | None:
    """The text of a message's content: a string, a number, a list of typed parts, or an object with a text.

    Returns:
        The text; None if there is none, as with `null`, an empty list, or a list of images.

    Raises:
        Unusable: the content is of another type.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        parts = [text for part in value if (text := _part_text(part))]
        return " ".join(parts) or None
    if isinstance(value, dict) and any(key in value for key in ("text", "parts", "content")):
        return text_of(next(value[key] for key in ("text", "parts", "content") if key in value))
    raise Unusable(f"the text of a message is a JSON {_type_name(value)}")


def weight_of(message: Row) -> float:
    """A turn's weight; 1 if it has none, or none that is a number of 0 or more."""
    if "weight" not in message:
        return 1.0
    try:
        weight = float(message["weight"])
    except (TypeError, ValueError):
        return 1.0
    return weight if 0 <= weight < math.inf else 1.0


def role_of(speaker: str) -> str:
    """The role that a speaker's name stands for; "" if it is the name of a person."""
    return ROLES.get(speaker.strip().lower(), "")


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return str(part["text"]) if is_text else None


def _list(value: Any) -> list[Any]:
    """The list itself, or the list that a text holds as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable("the list of messages is a text that is not JSON") from None
    if isinstance(value, dict) and "content" in value and "role" in value:  # columns, as `datasets` has them
        value = [dict(zip(value, each, strict=False)) for each in zip(*value.values(), strict=False)]
    return [] if value is None else list(value)


def _list_key(value: Row) -> str | None:
    """The key under which the messages of a conversation are."""
    for key in LISTS:
        inner = value.get(key, 0)
        is_text = isinstance(inner, str) and inner.lstrip().startswith("[")
        is_columns = isinstance(inner, dict) and isinstance(inner.get("content"), list)
        if inner is None or isinstance(inner, list) or is_text or is_columns:
            return key
    if _exchange(value) is None:
        return next((key for key in VAGUE_LISTS if isinstance(value.get(key), list)), None)
    return None


def _is_message(value: Any) -> bool:
    if isinstance(value, dict):
        return _first(value, TEXTS) is not None and _first(value, SPEAKERS) is not None
    if isinstance(value, list | tuple):  # a pair of acts, or a pair of texts
        return bool(value) and all(isinstance(each, dict) and _is_message(each) for each in value)
    return isinstance(value, str)


def _first(value: Row, keys: tuple[str, ...]) -> str | None:
    for key in keys:  # a generator would take three times as long, and this runs twice for each turn
        if key in value:
            return key
    return None


def _id_of(value: Row) -> str:
    return next((str(value[key]) for key in IDS if isinstance(value.get(key), str | int)), "")


def _turns(messages: list[Any]) -> list[Turn]:
    """The turns of a list of messages, in the order of their numbers if they are numbered.

    Raises:
        Unusable: one of the messages cannot be read; all turns of the conversation are lost.
    """
    flat = [each for message in messages for each in (message if isinstance(message, list) else [message])]
    if flat and all(isinstance(message, dict) for message in flat):
        order = next((key for key in ORDERS if all(type(m.get(key)) is int for m in flat)), None)
        if order:
            flat.sort(key=lambda message: int(message[order]))
    turns: list[Turn] = []
    cause = ""
    for number, message in enumerate(flat):
        try:
            turns.append(_turn(message, number))
        except Unusable as unusable:
            cause = cause or str(unusable)
            turns.append(Turn("", ""))
    has_roles = any(turn.role in (USER, ASSISTANT) for turn in turns)
    strange = next((turn.speaker for turn in turns if has_roles and not turn.role), "")
    if strange and not cause:
        cause = f"the role {strange[:40]!a} is not known"
    if cause:
        raise Unusable(cause, turns)
    return turns


def _turn(message: Any, number: int) -> Turn:
    if isinstance(message, str):
        return Turn(f"speaker {1 + number % 2}", message)
    if not isinstance(message, dict):
        raise Unusable(f"a message is a JSON {_type_name(message)}")
    speaker_key, text_key = _first(message, SPEAKERS), _first(message, TEXTS)
    if speaker_key is None or text_key is None:
        raise Unusable(f"a message has no role or no text: {unknown_keys(message)}")
    speaker = message[speaker_key]
    if isinstance(speaker, dict):  # an author as an object
        speaker = speaker.get("role") or speaker.get("name")
    if not isinstance(speaker, str | int):
        raise Unusable("a message has no role")
    role = role_of(str(speaker))
    if message.get("tool_calls") and not message[text_key]:
        role = TOOL
    text = "" if role == TOOL else message[text_key]
    if not isinstance(text, str):
        text = text_of(text) or ""
    return Turn(role or str(speaker).strip(), text, role, weight_of(message))


def _system(value: Row) -> list[Turn]:
    system = value.get("system") or value.get("system_prompt")
    return [Turn(SYSTEM, system, SYSTEM)] if isinstance(system, str) and system.strip() else []


def _exchange(value: Row) -> tuple[str, str] | None:
    return next((pair for pair in EXCHANGES if pair[0] in value and pair[1] in value), None)


def _exchange_turns(value: Row, question: str, answer: str) -> list[Turn]:
    """The turns of one exchange; a list of texts or of messages in one of its columns is several turns."""
    turns = _system(value)
    for pair in value.get("history") or []:
        if isinstance(pair, list | tuple) and len(pair) == 2:
            turns += [
                Turn(USER, text_of(pair[0]) or "", USER),
                Turn(ASSISTANT, text_of(pair[1]) or "", ASSISTANT),
            ]
    turns += _side(value[question], USER)
    more = value.get("input")
    if question != "input" and isinstance(more, str) and more.strip():
        turns.append(Turn(USER, more, USER))
    return [*turns, *_side(value[answer], ASSISTANT)]


def _side(value: Any, role: str) -> list[Turn]:
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return _turns(value)
    if (
        isinstance(value, list) and role == USER
    ):  # the turns of a context, of which the last one is the user's
        roles = [USER if (len(value) - i) % 2 else ASSISTANT for i in range(len(value))]
        return [Turn(each, text_of(text) or "", each) for each, text in zip(roles, value, strict=True)]
    return [Turn(role, text_of(value) or "", role)]


def _type_name(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "list" if isinstance(value, list | tuple) else "object")
