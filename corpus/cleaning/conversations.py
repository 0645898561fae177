"""Conversations: assembles the turns of a corpus into normalised conversations without empty turns."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from corpus.cleaning.config import CleanConfig
from models.text.normalisation import normalise

WITHOUT_LETTERS = "turns with no letter left"


@dataclass(frozen=True)
class Conversation:
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
    """Yield normalised conversations of at least two turns.

    A turn that is empty after normalisation is removed, and its conversation is divided at that point.
    """
    for conversation, rows in groupby(turns, key=itemgetter("conversation_id")):
        counts["conversations read"] += 1
        parts: list[list[dict[str, Any]]] = [[]]
        for row in rows:
            counts["turns read"] += 1
            text = normalise(row["text"], config.normalisation)
            counts[WITHOUT_LETTERS] += _has_letter(row["text"]) and not _has_letter(text)
            if text:
                parts[-1].append({**row, "text": text})
            else:
                counts["turns empty, or empty once cleaned"] += 1
                parts.append([])
        long_enough = [part for part in parts if len(part) > 1]
        counts["turns with no neighbour left"] += sum(len(part) == 1 for part in parts)
        for i, part in enumerate(long_enough):
            yield Conversation(
                id=conversation if i == 0 else f"{conversation}/{i + 1}",
                group=part[0]["group"],
                speakers=[row["speaker"] for row in part],
                texts=[row["text"] for row in part],
                roles=[row["role"] for row in part],
                weights=[row["weight"] for row in part],
                source_id=conversation,
            )


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
