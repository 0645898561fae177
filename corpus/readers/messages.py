"""Messages: reads the turns of a list of messages, whatever names its keys and its roles have."""

import json
import math
from typing import Any

from corpus.readers.turns import ASSISTANT, ROLES, SYSTEM, TOOL, USER, Turn

TEXTS = ("content", "value", "text", "message", "utterance", "body")
SPEAKERS = ("role", "from", "speaker", "agent", "author", "sender", "user", "name", "id")
ORDERS = ("turn", "index", "turn_id", "turn_index", "turn_number", "position")
GROUPS = ("group", "movie_id", "movie_idx", "film", "customer_id")
TOOL_CALLS = ("tool_calls", "function_call")

Row = dict[str, Any]


class Unusable(Exception):
    """A record is not a conversation, or a part of it cannot be used; the message is the cause."""

    def __init__(self, cause: str, turns: list[Turn] | None = None) -> None:
        super().__init__(cause)
        self.turns = turns or []
        """The turns that are lost because of this cause."""


def first_key(value: Row, keys: tuple[str, ...]) -> str | None:
    """The first of the keys that an object has."""
    for key in keys:  # a generator would take three times as long, and this runs twice for each turn
        if key in value:
            return key
    return None


def is_message(value: Any) -> bool:
    """Whether a value has the form of a message, or of a list of several messages that belong together."""
    if isinstance(value, dict):
        has_content = first_key(value, TEXTS) or first_key(value, TOOL_CALLS)
        return has_content is not None and first_key(value, SPEAKERS) is not None
    if isinstance(value, list | tuple):  # a pair of acts, or a pair of texts
        return bool(value) and all(isinstance(each, dict) and is_message(each) for each in value)
    return isinstance(value, str)


def messages_in(value: Any) -> list[Any]:
    """The list of messages that a value holds: the list itself, JSON text, or one list for each key.

    Raises:
        Unusable: the value holds no list.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable("the list of messages is a text that is not JSON") from None
    if isinstance(value, dict) and is_message(value):  # a list for each key, as `datasets` has them
        keys = [key for key, each in value.items() if isinstance(each, list)]
        value = [dict(zip(keys, each, strict=False)) for each in zip(*map(value.get, keys), strict=False)]
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise Unusable(f"the list of messages is a JSON {type_name(value)}")
    return list(value)


def turns_of(messages: list[Any]) -> list[Turn]:
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
    for message in flat:
        try:
            turns.append(_turn(message))
        except Unusable as unusable:
            cause = cause or str(unusable)
            turns.append(Turn("", ""))
    turns = with_assistant(turns)
    cause = cause or unknown_role(turns)
    if cause:
        raise Unusable(cause, turns)
    return turns


def with_assistant(turns: list[Turn]) -> list[Turn]:
    """The turns, in which the only partner of a user has the role of the assistant, whatever its name is.

    In some data sets of two speakers the partner is called `system`, which is then no system text, or has a
    name such as `agent` or that of a model.
    """
    if not any(turn.role == USER for turn in turns) or any(turn.role == ASSISTANT for turn in turns):
        return turns
    partners = {turn.speaker for turn in turns if not turn.role and turn.speaker}
    if len(partners) == 1:
        return [turn._replace(role=ASSISTANT) if turn.speaker in partners else turn for turn in turns]
    first_user = next(i for i, turn in enumerate(turns) if turn.role == USER)
    is_partner = [i > first_user and turn.role == SYSTEM for i, turn in enumerate(turns)]
    if partners or not any(is_partner):
        return turns
    return [
        turn._replace(speaker=ASSISTANT, role=ASSISTANT) if is_reply else turn
        for turn, is_reply in zip(turns, is_partner, strict=True)
    ]


def unknown_role(turns: list[Turn]) -> str:
    """The cause if a user or an assistant has a partner whose role is not known; otherwise ""."""
    if not any(turn.role in (USER, ASSISTANT) for turn in turns):
        return ""
    strange = next((turn.speaker for turn in turns if not turn.role and turn.speaker), "")
    return f"the role {strange[:40]!a} is not known" if strange else ""


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
        return _number_text(value)
    if isinstance(value, list | tuple):
        parts = [text for part in value if (text := _part_text(part))]
        return " ".join(parts) or None
    if isinstance(value, dict) and (key := first_key(value, ("text", "parts", "content"))):
        return text_of(value[key])
    raise Unusable(f"the text of a message is a JSON {type_name(value)}")


def weight_of(message: Row) -> float:
    """A turn's weight; 1 if it has none, or none that is a number of 0 or more."""
    if "weight" not in message:
        return 1.0
    try:
        weight = float(message["weight"])
    except (TypeError, ValueError, OverflowError):
        return 1.0
    return weight if 0 <= weight < math.inf else 1.0


def role_of(speaker: str) -> str:
    """The role that a speaker's name stands for; "" if it is the name of a person."""
    return ROLES.get(speaker.strip().lower(), "")


def unknown_keys(value: Row) -> str:
    """The cause for an object without any of the known keys."""
    keys = [ascii(str(key)[:40])[1:-1] for key in value]
    shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
    which = f"the keys {shown}" if len(keys) > 1 else f"the key {shown}" if keys else "no keys"
    return f"it has {which}; none of them is messages, conversations, text, prompt, question, ..."


def type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), "list" if isinstance(value, list | tuple) else "object")


def _turn(message: Any) -> Turn:
    if isinstance(message, str):
        return Turn("", message)
    if not isinstance(message, dict):
        raise Unusable(f"a message is a JSON {type_name(message)}")
    speaker_key, text_key = first_key(message, SPEAKERS), first_key(message, TEXTS)
    content = message[text_key] if text_key else None
    is_call = any(message.get(key) for key in TOOL_CALLS) and not content
    if speaker_key is None or not (text_key or is_call):
        raise Unusable(f"a message has no role or no text: {unknown_keys(message)}")
    speaker = message[speaker_key]
    if isinstance(speaker, dict):  # an author as an object
        speaker = speaker.get("role") or speaker.get("name")
    if not isinstance(speaker, str | int):
        raise Unusable("a message has no role")
    role = TOOL if is_call else role_of(str(speaker))
    text = "" if role == TOOL else text_of(content) or ""
    return Turn(role or str(speaker).strip(), text, role, weight_of(message))


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
    return str(part["text"]) if is_text else None


def _number_text(value: float) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # Python refuses to print more than 4,300 digits
        raise Unusable("the text of a message is a number with too many digits") from None
