"""Dialogue: the one way from turns to the sequence a model reads, for training, scoring and chat.

A sequence is `<start> turn <end> turn <end> ...`; every turn but the first is a reply.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from models.config import MarkupConfig
from models.tokenizer import END, START, UNK, spelling_nats


@dataclass(frozen=True)
class Example:
    """One training sequence; `is_reply` says which ids carry loss."""

    ids: list[int]
    is_reply: list[bool]
    turn: int
    replies: int
    reply_bytes: int
    spelled_nats: float


@dataclass(frozen=True)
class _Turn:
    ids: list[int]  # as a reply: cut on the right, <end> not counted
    tail: list[int]  # as context alone: cut on the left
    text_bytes: int
    spelled_nats: float


def encode_conversations(
    conversations: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    markup: MarkupConfig,
    spelling: list[float],
) -> Iterator[list[Example]]:
    """For each conversation its examples: every reply in exactly one, with the context that fits.

    What no id stands for (an unknown word, the end of a turn that is too long) is charged its
    spelling in `spelled_nats`: a model never gains by not knowing a word.
    """
    flat = [text for turns in conversations for text in turns]
    encodings = iter(tokenizer.encode_batch_fast(flat, add_special_tokens=False))
    for turns in conversations:
        coded = [_turn(text, next(encodings).ids, markup, tokenizer, spelling) for text in turns]
        windows = _pairs(len(coded)) if markup.unit == "pair" else _windows(coded, markup)
        yield [_example(coded, *window) for window in windows]


def _turn(
    text: str, ids: list[int], markup: MarkupConfig, tokenizer: Tokenizer, spelling: list[float]
) -> _Turn:
    limit = markup.reply_tokens - 1  # <end>
    tail = ids[-(markup.context_tokens - 2) :]
    if len(ids) <= limit and UNK not in ids:
        return _Turn(ids, tail, len(text.encode()), 0.0)
    # The offsets of `encode` are in characters of the text; those of the fast batch are not made.
    encoding = tokenizer.encode(text, add_special_tokens=False)
    kept = list(zip(encoding.ids, encoding.offsets, strict=True))[:limit]
    nats = sum(spelling_nats(text[start:end], spelling) for i, (start, end) in kept if i == UNK)
    if len(ids) > limit:
        nats += spelling_nats(text[encoding.offsets[limit][0] :], spelling)
    return _Turn(ids[:limit], tail, len(text.encode()), nats)


def _pairs(turns: int) -> Iterator[tuple[int, int, int]]:
    """(first turn, first reply, last turn) of each exchange."""
    for reply in range(1, turns):
        yield reply - 1, reply, reply


def _windows(coded: list[_Turn], markup: MarkupConfig) -> Iterator[tuple[int, int, int]]:
    """(first turn, first reply, last turn) of each window: what context fits, then what replies do."""
    first, reply = 0, 1
    while reply < len(coded):
        length = 1 + sum(len(turn.tail) + 1 for turn in coded[first:reply])
        while first > 0 and length + len(coded[first - 1].tail) + 1 <= markup.context_tokens:
            first -= 1
            length += len(coded[first].tail) + 1
        last = reply
        length += len(coded[reply].ids) + 1
        while last + 1 < len(coded) and length + len(coded[last + 1].ids) + 1 <= markup.max_tokens:
            last += 1
            length += len(coded[last].ids) + 1
        yield first, reply, last
        first, reply = last, last + 1


def _example(coded: list[_Turn], first: int, reply: int, last: int) -> Example:
    ids, is_reply = [START], [False]
    for i in range(first, last + 1):
        turn = coded[i].ids if i >= reply else coded[i].tail
        ids += [*turn, END]
        is_reply += [i >= reply] * (len(turn) + 1)
    replies = coded[reply : last + 1]
    return Example(
        ids=ids,
        is_reply=is_reply,
        turn=reply,
        replies=len(replies),
        reply_bytes=sum(turn.text_bytes for turn in replies),
        spelled_nats=sum(turn.spelled_nats for turn in replies),
    )


def encode_context(turns: Sequence[str], tokenizer: Tokenizer, markup: MarkupConfig) -> list[int]:
    """The ids that a reply is generated from; the oldest turns go first, then the last one's beginning.

    A pair's model reads the last turn alone.
    """
    turns = turns[-1:] if markup.unit == "pair" else turns
    room = markup.context_tokens - 1
    ids: list[int] = []
    for text in reversed(turns):
        turn = [*tokenizer.encode(text, add_special_tokens=False).ids, END]
        if ids and len(ids) + len(turn) > room:
            break
        ids = turn + ids
    return [START, *ids[-room:]]
