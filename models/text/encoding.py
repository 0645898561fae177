"""Encodes turns as the token sequence that a model reads, in the same way for training and for chat.

A sequence is `<start> turn <end> turn <end> ...`, in which each turn except the first is a reply. With a
pretrained model's chat template, only the assistant's turns, every second one, are replies. A conversation is
then encoded twice, so that each turn except the first is a reply in one of the two encodings.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from models.errors import InputError
from models.record import Record, left_out
from models.text.chat_template import ChatFormat
from models.text.config import MarkupConfig
from models.text.normalisation import Redaction, Style
from models.text.system_text import NO_SYSTEM, System, beginning, fit_system
from models.text.tokenizer import blank_nats, forgets_blanks, spelling_nats

DEFAULT_FORMAT = ChatFormat()
MODEL_INFO = "repartee.json"
MIN_TEXT_TOKENS = 8  # the fewest tokens that the chat format must leave for text


@dataclass(frozen=True)
class Example:
    """One training sequence; `is_reply` marks the ids that carry loss."""

    ids: list[int]
    is_reply: list[bool]
    turn: int
    replies: int
    reply_bytes: int
    spelled_nats: float
    silent: int = 0
    """The number of ids at the beginning that carry no loss at all: the system text and the ids around it."""


@dataclass(frozen=True)
class _Turn:
    ids: list[int]  # the turn as a reply: truncated on the right, without its end token
    tail: list[int]  # the turn as context: truncated on the left
    text_bytes: int
    spelled_nats: float


class ModelInfo(Record):
    """The file repartee.json in a model folder: how text must be prepared for the model."""

    family: str = ""
    normalisation: Style
    redaction: Redaction = "none"
    markup: MarkupConfig
    has_system: bool = False
    """Whether the model was trained with system texts."""

    _as_before = left_out(has_system=False)


def read_model_info(folder: Path) -> ModelInfo:
    """
    Raises:
        InputError: the folder does not contain a trained model, or the file is damaged.
    """
    path = folder / MODEL_INFO
    try:
        return ModelInfo.read(path)
    except FileNotFoundError:
        raise InputError(f"{folder} has no {MODEL_INFO}; give the folder of a trained model") from None
    except ValueError as error:
        is_json = not isinstance(error, json.JSONDecodeError)
        what = "a setting is missing or wrong" if is_json else "it is not JSON"
        raise InputError(f"{path} is damaged: {what}; train the model again") from None


def encode_conversations(
    conversations: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    markup: MarkupConfig,
    spelling: list[float],
    chat_format: ChatFormat = DEFAULT_FORMAT,
    has_loss: Sequence[Sequence[bool]] | None = None,
    systems: Sequence[str] | None = None,
) -> Iterator[list[Example]]:
    """Yield the examples of each conversation. Each reply is in one example, after as much context as fits.

    `has_loss` has a flag for each turn: a turn without loss is only context, and an example in which no reply
    has loss is left out. By default, every reply has loss.

    `systems` has the system text of each conversation, or "". It stands before the turns of each example and
    carries no loss. A text that does not fit into `markup.system_tokens` is left out.

    `spelled_nats` is the spelling charge for text that has no ids: unknown words, the truncated end of a long
    turn, and the spaces that a word vocabulary loses. Because of this charge, a model never gains by not
    knowing a word (docs/decisions/0004-bits-per-byte-on-text.md).

    Raises:
        InputError: the chat format leaves too few tokens for the text.
    """
    check_capacity(markup, chat_format)
    flat = [text for turns in conversations for text in turns]
    # encode_batch_fast does not return the character offsets that the charge for whitespace needs.
    encode = tokenizer.encode_batch if forgets_blanks(tokenizer) else tokenizer.encode_batch_fast
    encodings = iter(encode(flat, add_special_tokens=False))
    for number, turns in enumerate(conversations):
        flags = has_loss[number] if has_loss is not None else [True] * len(turns)
        system = fit_system(systems[number], tokenizer, markup, chat_format) if systems else NO_SYSTEM
        turns_ids = [
            _turn(text, next(encodings), markup, tokenizer, spelling, chat_format, system.tokens)
            for text in turns
        ]
        windows = _all_windows(turns_ids, markup, chat_format, system.tokens)
        examples = (_example(turns_ids, flags, chat_format, system, *window) for window in windows)
        yield [example for example in examples if example.replies]


def check_capacity(markup: MarkupConfig, chat_format: ChatFormat) -> None:
    """Check that the chat template's own tokens leave room for at least MIN_TEXT_TOKENS tokens of text.

    Raises:
        InputError: markup.max_tokens is too low for the chat template.
    """
    overhead = chat_format.max_prefix + chat_format.max_per_turn
    if chat_format.stride > 1 and markup.context_tokens < overhead + MIN_TEXT_TOKENS:
        raise InputError(
            f"markup.max_tokens {markup.max_tokens} leaves too little room for text, because the model's "
            f"chat template takes {overhead} tokens; set it to {4 * (overhead + MIN_TEXT_TOKENS)} or more"
        )


def _turn(
    text: str,
    encoding: Encoding,
    markup: MarkupConfig,
    tokenizer: Tokenizer,
    spelling: list[float],
    chat_format: ChatFormat,
    system_tokens: int,
) -> _Turn:
    ids, unknown = encoding.ids, chat_format.special_tokens.unknown
    limit = markup.reply_tokens - chat_format.max_per_turn
    tail = ids[-(markup.context_tokens - chat_format.max_prefix - chat_format.max_per_turn - system_tokens) :]
    has_offsets = forgets_blanks(tokenizer)
    if not has_offsets:
        if len(ids) <= limit and unknown not in ids:
            return _Turn(ids, tail, len(text.encode()), 0.0)
        encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = encoding.offsets
    spelled = [text[start:end] for i, (start, end) in zip(ids[:limit], offsets, strict=False) if i == unknown]
    if len(ids) > limit:
        spelled.append(text[offsets[limit][0] :])
    nats = sum(spelling_nats(part, spelling) for part in spelled)
    if has_offsets:
        nats += blank_nats(text, offsets[: limit + 1], spelling)
    return _Turn(ids[:limit], tail, len(text.encode()), nats)


def _all_windows(
    turns_ids: list[_Turn], markup: MarkupConfig, chat_format: ChatFormat, system_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the first turn, the first reply and the last turn of each example of a conversation."""
    if markup.unit == "pair":
        yield from _pairs(len(turns_ids))
        return
    for first in range(1, 1 + chat_format.stride):
        yield from _windows(turns_ids, markup, chat_format, first, system_tokens)


def _pairs(turns: int) -> Iterator[tuple[int, int, int]]:
    """Yield the first turn, the first reply and the last turn of each exchange."""
    for reply in range(1, turns):
        yield reply - 1, reply, reply


def _windows(
    turns_ids: list[_Turn], markup: MarkupConfig, chat_format: ChatFormat, reply: int, system_tokens: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the first turn, the first reply and the last turn of each window.

    A window consists of as much context as fits, then as many replies as fit. The replies are the turn
    `reply` and every `stride`-th turn after it.
    """
    per_turn, stride = chat_format.max_per_turn, chat_format.stride
    while reply < len(turns_ids):
        first = reply - 1
        length = chat_format.max_prefix + system_tokens + len(turns_ids[first].tail) + per_turn
        while first > 0 and length + len(turns_ids[first - 1].tail) + per_turn <= markup.context_tokens:
            first -= 1
            length += len(turns_ids[first].tail) + per_turn
        if not chat_format.allows_assistant_first and (reply - first) % 2 == 0:
            first += 1
        last = reply
        length += len(turns_ids[reply].ids) + per_turn
        while following := turns_ids[last + 1 : last + 1 + stride]:
            length += sum(len(turn.ids) + per_turn for turn in following)
            if len(following) < stride or length > markup.max_tokens:
                break
            last += stride
        yield first, reply, last
        reply = last + stride


def _example(
    turns_ids: list[_Turn],
    has_loss: Sequence[bool],
    chat_format: ChatFormat,
    system: System,
    first: int,
    reply: int,
    last: int,
) -> Example:
    before, surrounding = beginning(last + 1 - first, system, chat_format)
    ids = [*before, *surrounding[0]]
    is_reply = [False] * len(ids)
    for i, after in zip(range(first, last + 1), surrounding[1:], strict=True):
        turn = turns_ids[i].ids if i >= reply else turns_ids[i].tail
        ids += [*turn, *after]
        is_reply_turn = i >= reply and (i - reply) % chat_format.stride == 0 and has_loss[i]
        num_reply_ids = len(turn) + chat_format.end_length(after) if is_reply_turn else 0
        is_reply += [True] * num_reply_ids + [False] * (len(turn) + len(after) - num_reply_ids)
    replies = [turns_ids[i] for i in range(reply, last + 1, chat_format.stride) if has_loss[i]]
    return Example(
        ids=ids,
        is_reply=is_reply,
        turn=reply,
        replies=len(replies),
        reply_bytes=sum(turn.text_bytes for turn in replies),
        spelled_nats=sum(turn.spelled_nats for turn in replies),
        silent=len(before) + len(surrounding[0]) if before else 0,
    )


def encode_context(
    turns: Sequence[str],
    tokenizer: Tokenizer,
    markup: MarkupConfig,
    chat_format: ChatFormat = DEFAULT_FORMAT,
    system_text: str = "",
) -> list[int]:
    """The ids from which a reply is generated.

    A system text stands before the turns, unless it does not fit into `markup.system_tokens`.

    If the turns do not fit, the oldest turns are dropped; if the last turn alone does not fit, its beginning
    is dropped. A model that was trained on pairs gets only the last turn.
    """
    turns = turns[-1:] if markup.unit == "pair" else turns
    system = fit_system(system_text, tokenizer, markup, chat_format)
    available = markup.context_tokens - chat_format.max_prefix - system.tokens
    included: list[list[int]] = []
    for text in reversed(turns):
        ids = tokenizer.encode(text, add_special_tokens=False).ids[-(available - chat_format.max_per_turn) :]
        if (
            included
            and sum(map(len, included)) + len(ids) + chat_format.max_per_turn * (1 + len(included))
            > available
        ):
            break
        included.insert(0, ids)
    if not chat_format.allows_assistant_first and len(included) % 2 == 0:
        del included[0]
    before, around = beginning(len(included) + 1, system, chat_format)
    surrounding = around[:-1]  # the model generates the reply's end
    return [
        *before,
        *surrounding[0],
        *(i for ids, after in zip(included, surrounding[1:], strict=True) for i in (*ids, *after)),
    ]
