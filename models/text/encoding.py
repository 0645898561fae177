"""Dialogue: the one way from turns to the sequence a model reads, for training, scoring and chat.

A sequence is `<start> turn <end> turn <end> ...`, and every turn but the first is a reply; or what a
pretrained model's chat template writes, and every turn is the assistant's reply in one rendering.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from models.errors import InputError
from models.text.chat_template import Rendering
from models.text.config import MarkupConfig
from models.text.tokenizer import blank_nats, forgets_blanks, spelling_nats

OURS = Rendering()
LEAST_ROOM = 8  # ids of what was said, beside those of the rendering


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
    ids: list[int]  # as a reply: cut on the right, its end not counted
    tail: list[int]  # as context alone: cut on the left
    text_bytes: int
    spelled_nats: float


def read_dialogue(folder: Path) -> dict[str, Any]:
    """What repartee.json says of the model in the folder: family, normalisation, markup.

    Raises:
        InputError: it is no folder of a trained model.
    """
    path = folder / "repartee.json"
    try:
        made: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} has no repartee.json; give the folder of a trained model") from None
    except ValueError:
        raise InputError(f"{path} is damaged: it is not JSON; train the model again") from None
    return made


def encode_conversations(
    conversations: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    markup: MarkupConfig,
    spelling: list[float],
    rendering: Rendering = OURS,
) -> Iterator[list[Example]]:
    """For each conversation its examples: every reply in exactly one, with the context that fits.

    What no id stands for (an unknown word, the end of a turn that is too long, the blanks of a word
    vocabulary) is charged its spelling in `spelled_nats`: a model never gains by not knowing something.

    Raises:
        InputError: the rendering leaves no room for what is said.
    """
    check_room(markup, rendering)
    flat = [text for turns in conversations for text in turns]
    # The fast batch has no offsets, which are in characters of the text.
    encode = tokenizer.encode_batch if forgets_blanks(tokenizer) else tokenizer.encode_batch_fast
    encodings = iter(encode(flat, add_special_tokens=False))
    for turns in conversations:
        coded = [_turn(text, next(encodings), markup, tokenizer, spelling, rendering) for text in turns]
        if markup.unit == "pair":
            windows = _pairs(len(coded))
        else:
            firsts = range(1, 1 + rendering.stride)
            windows = (window for first in firsts for window in _windows(coded, markup, rendering, first))
        yield [_example(coded, rendering, *window) for window in windows]


def check_room(markup: MarkupConfig, rendering: Rendering) -> None:
    """Ours always leaves room; a chat template may write a long text of its own."""
    written = rendering.head + rendering.turn
    if rendering.stride > 1 and markup.context_tokens < written + LEAST_ROOM:
        raise InputError(
            f"markup.max_tokens {markup.max_tokens} leaves no room beside the {written} ids of the model's "
            f"chat template; set it to {4 * (written + LEAST_ROOM)} or more"
        )


def _turn(
    text: str,
    encoding: Encoding,
    markup: MarkupConfig,
    tokenizer: Tokenizer,
    spelling: list[float],
    rendering: Rendering,
) -> _Turn:
    ids, unknown = encoding.ids, rendering.control.unknown
    limit = markup.reply_tokens - rendering.turn
    tail = ids[-(markup.context_tokens - rendering.head - rendering.turn) :]
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


def _pairs(turns: int) -> Iterator[tuple[int, int, int]]:
    """(first turn, first reply, last turn) of each exchange."""
    for reply in range(1, turns):
        yield reply - 1, reply, reply


def _windows(
    coded: list[_Turn], markup: MarkupConfig, rendering: Rendering, reply: int
) -> Iterator[tuple[int, int, int]]:
    """(first turn, first reply, last turn) of each window: what context fits, then what replies do.

    The replies are `reply` and those a stride apart.
    """
    around, stride = rendering.turn, rendering.stride
    while reply < len(coded):
        first = reply - 1
        length = rendering.head + len(coded[first].tail) + around
        while first > 0 and length + len(coded[first - 1].tail) + around <= markup.context_tokens:
            first -= 1
            length += len(coded[first].tail) + around
        if not rendering.may_open and (reply - first) % 2 == 0:
            first += 1
        last = reply
        length += len(coded[reply].ids) + around
        while more := coded[last + 1 : last + 1 + stride]:
            length += sum(len(turn.ids) + around for turn in more)
            if len(more) < stride or length > markup.max_tokens:
                break
            last += stride
        yield first, reply, last
        reply = last + stride


def _example(coded: list[_Turn], rendering: Rendering, first: int, reply: int, last: int) -> Example:
    around = rendering.around(last + 1 - first)
    ids = [*around[0]]
    is_reply = [False] * len(ids)
    for i, after in zip(range(first, last + 1), around[1:], strict=True):
        turn = coded[i].ids if i >= reply else coded[i].tail
        ids += [*turn, *after]
        asked = i >= reply and (i - reply) % rendering.stride == 0
        carries = len(turn) + rendering.upto_end(after) if asked else 0
        is_reply += [True] * carries + [False] * (len(turn) + len(after) - carries)
    replies = coded[reply : last + 1 : rendering.stride]
    return Example(
        ids=ids,
        is_reply=is_reply,
        turn=reply,
        replies=len(replies),
        reply_bytes=sum(turn.text_bytes for turn in replies),
        spelled_nats=sum(turn.spelled_nats for turn in replies),
    )


def encode_context(
    turns: Sequence[str], tokenizer: Tokenizer, markup: MarkupConfig, rendering: Rendering = OURS
) -> list[int]:
    """The ids that a reply is generated from; the oldest turns go first, then the last one's beginning.

    A pair's model reads the last turn alone.
    """
    turns = turns[-1:] if markup.unit == "pair" else turns
    room = markup.context_tokens - rendering.head
    read: list[list[int]] = []
    for text in reversed(turns):
        ids = tokenizer.encode(text, add_special_tokens=False).ids[-(room - rendering.turn) :]
        if read and sum(map(len, read)) + len(ids) + rendering.turn * (1 + len(read)) > room:
            break
        read.insert(0, ids)
    if not rendering.may_open and len(read) % 2 == 0:
        del read[0]
    around = rendering.around(len(read) + 1)[:-1]  # the reply's own end is the model's to make
    return [*around[0], *(i for ids, after in zip(read, around[1:], strict=True) for i in (*ids, *after))]
