"""Conversations: assembles the turns of a corpus into conversations of prepared text, without empty turns."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from corpus.cleaning.config import CleanConfig
from models.text.redaction import KINDS, prepare, redact

WITHOUT_LETTERS = "turns with no letter left"


class Conversation(NamedTuple):
    """A conversation of the corpus, or a part of one, without empty turns."""

    id: str
    group: str
    speakers: list[str]
    texts: list[str]
    roles: list[str]
    weights: list[float]
    source_id: str
    """The id of the complete conversation in the corpus, even if this object is only a part of it."""


def read_conversations(
    turns: Iterable[dict[str, Any]], config: CleanConfig, counts: Counter[str]
) -> Iterator[Conversation]:
    """Yield conversations of at least two turns, with normalised text in which personal data is replaced.

    A turn that is empty after normalisation is removed, and its conversation is divided at that point.
    """
    for name, group in groupby(turns, key=itemgetter("conversation_id")):
        rows = list(group)
        raw = Conversation(
            id=name,
            group=rows[0]["group"],
            speakers=[row["speaker"] for row in rows],
            texts=[row["text"] for row in rows],
            roles=[row["role"] for row in rows],
            weights=[row["weight"] for row in rows],
            source_id=name,
        )
        yield from clean_conversation(raw, config, counts)


def clean_conversation(
    raw: Conversation, config: CleanConfig, counts: Counter[str]
) -> Iterator[Conversation]:
    """Yield the parts of one conversation, as `read_conversations` does."""
    counts["conversations read"] += 1
    counts["turns read"] += len(raw.texts)
    texts = []
    for raw_text in raw.texts:
        text, replaced = prepare(raw_text, style=config.normalisation, redaction=config.redaction)
        texts.append(text)
        for kind, count in replaced.items():
            counts[f"{KINDS[kind]} replaced"] += count
    speakers = [_speaker(name, config) for name in raw.speakers]
    changed = zip(raw.texts, texts, strict=True) if texts != raw.texts else ()
    counts[WITHOUT_LETTERS] += sum(_has_letter(a) and not _has_letter(b) for a, b in changed)
    parts = [(0, len(texts))]
    if not all(texts):
        empty = [i for i, text in enumerate(texts) if not text]
        counts["turns empty, or empty once cleaned"] += len(empty)
        parts = list(zip([0, *(i + 1 for i in empty)], [*empty, len(texts)], strict=True))
    long_enough = [(start, end) for start, end in parts if end - start > 1]
    counts["turns with no neighbour left"] += sum(end - start == 1 for start, end in parts)
    for i, (start, end) in enumerate(long_enough):
        yield Conversation(
            id=raw.id if i == 0 else f"{raw.id}/{i + 1}",
            group=raw.group,
            speakers=speakers[start:end],
            texts=texts[start:end],
            roles=raw.roles[start:end],
            weights=raw.weights[start:end],
            source_id=raw.source_id,
        )


def _speaker(name: str, config: CleanConfig) -> str:
    """The name of a speaker as it is stored. In chat exports, a name may be a phone number."""
    return name if config.redaction == "none" else redact(name)[0]


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
