"""Figures: what the data contract compares between two data sets.

The figures are computed once from the output of the stage `clean`, and stored beside it. Each of them is
divided into PARTS parts, by a hash of what is never divided between splits (a group or a conversation). The
parts can be combined to halves of the data, whose differences show how large a difference means nothing.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import EMPTY
from corpus.cleaning.copies import IN_OTHER_SPLIT, IN_SAME_SPLIT
from corpus.contract.words import count_words, words_of
from corpus.counters import FrequentTexts
from models.record import Record

FIGURES = "logs/figures.json"
"""The file in the output of `clean`. The digest of an output does not include the files in logs/, so a change
of this module trains no model again."""
FORMAT = 1  # increase it if the meaning of a figure changes: figures of two formats are not compared
PARTS = 8
BINS_PER_OCTAVE, BINS = 4, 100
STORED_WORDS = 5000
BATCH_ROWS = 1 << 16


class Figures(Record):
    """The figures of one data set. A list has an entry for each part of the data."""

    format: int
    conversations: list[int]
    turns: list[int]
    characters: list[int]
    words: list[int]
    turns_per_conversation: list[list[int]]
    """Histograms: bin i counts the conversations with at least 2**(i/4) and fewer than 2**((i+1)/4) turns."""
    characters_per_turn: list[list[int]]
    """The same for the numbers of characters in the turns."""
    word_counts: dict[str, list[int]]
    """How often each of the STORED_WORDS commonest words occurs."""
    empty_turns: float
    """The share of the turns that are empty once they are cleaned."""
    repeated_conversations: float
    """The share of the cleaned conversations that repeat another one."""
    rejected_lines: float = 0.0
    """The share of the lines that the stage `parse` could not use; `read_figures` adds it."""


def write_figures(out: Path, config: CleanConfig) -> None:
    """Measure the data in `out`, which has the files of the stage `clean`, and write FIGURES into it."""
    path = out / FIGURES
    path.parent.mkdir(exist_ok=True)
    path.write_text(measure(out, config).model_dump_json() + "\n")


def read_figures(clean: Path, parse: Path) -> Figures:
    """The figures stored beside the output of `clean`, which was built from the output of `parse`."""
    parsed = json.loads((parse / "report.json").read_text())
    rejected = _share(sum(parsed["rejected"].values()), parsed["lines_read"])
    return Figures.read(clean / FIGURES).model_copy(update={"rejected_lines": rejected})


def measure(clean: Path, config: CleanConfig) -> Figures:
    """The figures of the data that the stage `clean` has written."""
    cleaned = json.loads((clean / "report.json").read_text())["counts"]
    counts = _Counts()
    for batch in _batches(clean / "turns.parquet", config):
        counts.add(*batch)
    counts.end_conversation()
    repeated = cleaned.get(IN_SAME_SPLIT, 0) + cleaned.get(IN_OTHER_SPLIT, 0)
    stay = int(counts.turns_each.sum())
    return Figures(
        format=FORMAT,
        conversations=counts.turns_each.sum(axis=1).tolist(),
        turns=counts.lengths.sum(axis=1).tolist(),
        characters=counts.characters.tolist(),
        words=[words.total for words in counts.words],
        turns_per_conversation=counts.turns_each.tolist(),
        characters_per_turn=counts.lengths.tolist(),
        word_counts=_commonest(counts.words),
        empty_turns=_share(cleaned.get(EMPTY, 0), cleaned.get("turns read", 0)),
        repeated_conversations=_share(repeated, stay + repeated),
    )


class _Counts:
    """What has been counted so far; the first axis of each array is the part."""

    def __init__(self) -> None:
        self.turns_each = np.zeros((PARTS, BINS), np.int64)
        self.lengths = np.zeros((PARTS, BINS), np.int64)
        self.characters = np.zeros(PARTS, np.int64)
        self.words = [FrequentTexts() for _ in range(PARTS)]
        self._last_turn = np.zeros(0, np.int64)
        self._last_part = np.zeros(0, np.int64)

    def add(self, turns: NDArray[Any], parts: NDArray[np.int64], texts: pa.Array) -> None:
        """Count turns: the position of each in its conversation, its part of the data, and its text."""
        lengths = numbers_of(pc.utf8_length(texts))
        np.add.at(self.lengths, (parts, bins_of(lengths)), 1)
        self.characters += np.bincount(parts, lengths, PARTS).astype(np.int64)
        words = words_of(texts)
        flat, own = words.flatten(), parts[numbers_of(pc.list_parent_indices(words))]
        for part in range(PARTS):
            rows = np.flatnonzero(own == part)
            self.words[part].add_counts(count_words(flat.take(number_array(rows))))
        # A turn ends its conversation if the next one is the first of another conversation.
        turns = np.concatenate([self._last_turn, turns])
        parts = np.concatenate([self._last_part, parts])
        ends = np.flatnonzero(turns[1:] == 0)
        np.add.at(self.turns_each, (parts[ends], bins_of(turns[ends] + 1)), 1)
        self._last_turn, self._last_part = turns[-1:], parts[-1:]

    def end_conversation(self) -> None:
        """Count the last conversation, after which no turn follows."""
        np.add.at(self.turns_each, (self._last_part, bins_of(self._last_turn + 1)), 1)


def bins_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each value: four bins between a number and its double, whatever the number."""
    octaves = np.log2(np.maximum(values, 1))
    bins: NDArray[np.int64] = np.minimum((BINS_PER_OCTAVE * octaves).astype(np.int64), BINS - 1)
    return bins


def part_of(name: str) -> int:
    """The part of a group or conversation. It does not depend on its split, which the first bytes decide."""
    return hashlib.sha256(name.encode()).digest()[-1] % PARTS


def _batches(turns: Path, config: CleanConfig) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], pa.Array]]:
    unit = "group" if config.split_by == "group" else "conversation_id"
    with pq.ParquetFile(turns) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[unit, "turn", "text"]):
            units = batch[unit].dictionary_encode()
            of_units = np.array([part_of(name) for name in units.dictionary.to_pylist()], np.int64)
            yield numbers_of(batch["turn"]), of_units[numbers_of(units.indices)], batch["text"]


def _commonest(parts: list[FrequentTexts]) -> dict[str, list[int]]:
    totals: Counter[str] = Counter()
    for part in parts:
        totals.update(part.counts)
    words = sorted(totals, key=lambda word: (-totals[word], word))[:STORED_WORDS]
    return {word: [part.counts.get(word, 0) for part in parts] for word in words}


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0
