"""Exchanges: reads a question and its answer from two keys of an object, or from two columns of a table.

An exchange may have more: an `input` beside its instruction, and a `history` of earlier exchanges.
"""

import json
from typing import Any

from corpus.readers.messages import Row, Unusable, is_message, text_of, turns_of, type_name
from corpus.readers.turns import ASSISTANT, SYSTEM, USER, Turn

EXCHANGES = (
    ("question", "answer"), ("prompt", "completion"), ("prompt", "response"), ("prompt", "chosen"),
    ("instruction", "output"), ("instruction", "response"), ("question", "response"),
    ("context", "response"), ("context", "reply"), ("input", "output"), ("input", "response"),
    ("query", "response"), ("query", "answer"), ("source", "target"), ("user", "assistant"),
    ("human", "assistant"), ("human", "bot"), ("message", "reply"), ("post", "reply"),
)  # fmt: skip
PAIR = (USER, ASSISTANT)


def exchange_keys(value: Row) -> tuple[str, str] | None:
    """The keys of the question and of the answer; None if an object has no such pair."""
    return next((pair for pair in EXCHANGES if pair[0] in value and pair[1] in value), None)


def exchange_turns(value: Row, question: str, answer: str) -> list[Turn]:
    """The turns of one exchange; a list of texts or of messages in one of its columns is several turns.

    Raises:
        Unusable: one of the parts is of another type.
    """
    context = [*_history(value.get("history")), *_side(value[question], USER)]
    more = value.get("input")
    if question != "input" and isinstance(more, str) and more.strip():
        context.append(Turn(USER, more, USER))
    reply = _side(value[answer], ASSISTANT)
    if reply[: len(context)] == context:  # a whole conversation, as the data of preferences have it
        reply = reply[len(context) :]
    return [*system_turns(value), *context, *reply]


def system_turns(value: Row) -> list[Turn]:
    """The system text beside the messages of a record, as a turn; none if there is no such text."""
    system = value.get("system") or value.get("system_prompt")
    return [Turn(SYSTEM, system, SYSTEM)] if isinstance(system, str) and system.strip() else []


def _history(value: Any) -> list[Turn]:
    """The turns before an exchange: pairs, messages or texts in turn, as a list or as its JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Unusable("the history is a text that is not JSON") from None
    if value is None or value == "":
        return []
    if not isinstance(value, list | tuple):
        raise Unusable(f"the history is a JSON {type_name(value)}")
    if _is_messages(value):
        return turns_of(list(value))
    if value and all(isinstance(each, str) for each in value):
        return _alternating(value, last=ASSISTANT)
    turns: list[Turn] = []
    for pair in value:
        if isinstance(pair, dict) and (keys := exchange_keys(pair)):
            pair = [pair[key] for key in keys]
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unusable("the history is no list of pairs, messages or texts")
        turns += [Turn(role, text_of(text) or "", role) for role, text in zip(PAIR, pair, strict=True)]
    return turns


def _side(value: Any, role: str) -> list[Turn]:
    if isinstance(value, list) and _is_messages(value):
        return turns_of(value)
    if isinstance(value, list) and role == USER:  # the turns of a context, of which the last is the user's
        return _alternating([text_of(text) or "" for text in value], last=USER)
    return [Turn(role, text_of(value) or "", role)]


def _is_messages(value: list[Any] | tuple[Any, ...]) -> bool:
    return bool(value) and all(isinstance(each, dict) and is_message(each) for each in value)


def _alternating(texts: Any, *, last: str) -> list[Turn]:
    other = ASSISTANT if last == USER else USER
    roles = [last if (len(texts) - i) % 2 else other for i in range(len(texts))]
    return [Turn(role, text, role) for role, text in zip(roles, texts, strict=True)]
