"""Records: reads a conversation from one object or list of a JSON file, or from one row of a table.

A record holds a whole conversation: a list of messages under a known key, or one exchange (a question and its
answer) in two columns. docs/corpora.md shows an example of each form.
"""

from collections.abc import Iterator
from typing import Any

from corpus.readers.exchanges import exchange_keys, exchange_turns, system_turns
from corpus.readers.messages import (
    GROUPS,
    Row,
    Unusable,
    is_message,
    messages_in,
    turns_of,
    type_name,
    unknown_keys,
)
from corpus.readers.turns import Conversation

LISTS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "thread", "utterances", "turns",
)  # fmt: skip
VAGUE_LISTS = ("content", "chat", "data")  # keys that hold a list of messages only if nothing else does
CONVERSATION_IDS = ("conversation_id", "dialogue_id", "dialog_id", "conv_id", "thread_id", "session_id")
IDS = (*CONVERSATION_IDS, "id")
GROUP_KEYS = (*GROUPS, "user_id")


def is_conversation(value: Any) -> bool:
    """Whether a value has the form of a conversation or of an exchange."""
    if isinstance(value, list):
        return len(value) > 0 and all(is_message(each) for each in value)
    return isinstance(value, dict) and (_list_key(value) is not None or exchange_keys(value) is not None)


def is_exchange(value: Any) -> bool:
    """Whether a value has the form of one exchange: a question and its answer."""
    return isinstance(value, dict) and _list_key(value) is None and exchange_keys(value) is not None


def parts_of(value: Any, key: str = "") -> Iterator[tuple[Any, str]]:
    """Yield the records that a value consists of, each with its key: several if it is a list of records.

    Args:
        key: the key of the value in its file; "" if it has none.
    """
    inner = value
    if isinstance(value, dict) and (list_key := _list_key(value)):
        inner = value[list_key]
    is_collection = isinstance(inner, list) and not all(map(is_message, inner))
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
        return Conversation(default_id, turns_of(value))
    if not isinstance(value, dict):
        raise Unusable(f"a JSON {type_name(value)}, not an object or a list of messages")
    name = id_in(value, IDS) or default_id
    group = id_in(value, GROUP_KEYS)
    if list_key := _list_key(value):
        return Conversation(name, [*system_turns(value), *turns_of(messages_in(value[list_key]))], group)
    if keys := exchange_keys(value):  # the exchanges of one conversation are never divided between splits
        group = group or id_in(value, CONVERSATION_IDS)
        return Conversation(name, exchange_turns(value, *keys), group)
    raise Unusable(unknown_keys(value))


def id_in(value: Row, keys: tuple[str, ...]) -> str:
    """The first id under one of the keys as text; a whole number is the same text, however it is stored."""
    for key in keys:
        found = value.get(key)
        if isinstance(found, dict):  # ConvoKit's old files have an object for a speaker
            found = found.get("id") or found.get("name")
        if isinstance(found, float) and found.is_integer():  # pandas stores ids as floats if one is missing
            found = int(found)
        if isinstance(found, str | int | float) and found == found and (text := _text(found)):
            return text
    return ""


def _text(value: str | float) -> str:
    try:
        return str(value).strip()
    except ValueError:  # Python refuses to print more than 4,300 digits
        return hex(int(value))


def _list_key(value: Row) -> str | None:
    """The key under which the messages of a conversation are."""
    for key in LISTS:
        inner = value.get(key, 0)
        is_text = isinstance(inner, str) and inner.lstrip().startswith("[")
        is_list_each = isinstance(inner, dict) and is_message(inner) and _holds_list(inner)
        if inner is None or isinstance(inner, list) or is_text or is_list_each:
            return key
    if exchange_keys(value) is None:
        return next((key for key in VAGUE_LISTS if isinstance(value.get(key), list)), None)
    return None


def _holds_list(value: Row) -> bool:
    return any(isinstance(each, list) for each in value.values())
