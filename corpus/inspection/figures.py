"""Figures: what a corpus holds, and what a run with certain settings would train on.

The conversations are read one after another, as the stages `parse` and `clean` read them, and only counted.
"""

import logging
import time
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from corpus.arrays import number_array, numbers_of, text_array
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import Parts, clean_conversations
from corpus.cleaning.copies import exchange_hashes, part_digests, text_digests
from corpus.cleaning.split import position_of, splits_at
from corpus.counters import FrequentTexts, HashSample, Lengths
from corpus.readers.parsing import ParseConfig, Parsing
from corpus.readers.turns import Conversation, Turn, group_of, system_of
from corpus.readers.writer import rows_of, table_of
from models.data.schemas import SPLITS, SYSTEM

SAMPLES = 5
BATCH_TURNS = 4096  # turns that are cleaned and counted together
PROGRESS_EVERY = 1000  # conversations between two looks at the clock
PROGRESS_SECONDS = 0.3

progress = logging.getLogger("progress")


class Sample(NamedTuple):
    """A conversation of the sample: those with the smallest hashes, a random but repeatable choice."""

    key: int
    id: str
    split: str
    speakers: list[str]
    texts: list[str]
    weights: list[float]
    system: str
    """The system text as the model reads it, or ""."""


class Figures:
    """What has been counted so far."""

    def __init__(self, config: CleanConfig) -> None:
        self.config = config
        self.counts: Counter[str] = Counter()
        """The counts of the stage `clean`."""
        self.turns = 0
        """The turns that are left after cleaning."""
        self.characters, self.words, self.turns_each = Lengths(), Lengths(), Lengths()
        self.replies = FrequentTexts()
        """The turns that carry loss."""
        self.conversations = HashSample[tuple[int, int]](_merge_copies)
        """The number of copies of a conversation, and the position of its split in SPLITS, by its texts."""
        self.exchanges = HashSample[int](int.__add__)
        """The number of times that a turn and its reply occur, by their texts."""
        self.groups = HashSample[int](int.__add__)
        """The number of conversations of each group, by its position among the splits."""
        self.units = self.groups if config.split_by == "group" else HashSample[int](int.__add__)
        """The same for what is never divided between splits."""
        self.samples: list[Sample] = []
        self._rows: list[tuple[Any, ...]] = []
        self._systems: list[str] = []

    def add(self, conversation: Conversation, turns: list[Turn]) -> None:
        """Add a conversation. It is counted later, and at the latest when `count_waiting` is called."""
        name = conversation.id
        if self._rows and self._rows[-1][0] == name:  # two conversations in a row would become one
            name = f"{name}-2"
        self._rows += rows_of(name, turns, group_of(conversation, turns))
        self._systems += [system_of(conversation), *[""] * (len(turns) - 1)]
        if len(self._rows) >= BATCH_TURNS:
            self.count_waiting()

    def count_waiting(self) -> None:
        """Clean and count the conversations that were added but not counted yet."""
        turns = table_of(self._rows).append_column(SYSTEM, text_array(self._systems))
        self._rows, self._systems = [], []
        parts = clean_conversations(turns, self.config, self.counts)
        if not len(parts.sizes):
            return
        texts = parts.turns["text"].combine_chunks()
        self.turns += len(texts)
        self.turns_each.add(parts.sizes.tolist())
        self.characters.add(pc.utf8_length(texts).to_pylist())
        # Cleaned texts have single spaces.
        self.words.add((1 + numbers_of(pc.count_substring(texts, " "))).tolist())
        is_reply = numbers_of(parts.turns["weight"].combine_chunks()) > 0
        is_reply[parts.starts[:-1]] = False
        self.replies.add(texts.take(number_array(np.flatnonzero(is_reply))).to_pylist())
        self._add_hashes(parts)

    def _add_hashes(self, parts: Parts) -> None:
        positions = [position_of(unit) for unit in parts.units]
        splits = splits_at(np.array(positions, np.uint64), self.config).tolist()
        for position in positions:
            self.units.add(position, 1)
        if self.groups is not self.units:
            groups = parts.turns["group"].take(number_array(parts.starts[:-1])).to_pylist()
            for group in groups:
                self.groups.add(position_of(group), 1)
        texts = text_digests(parts.turns)
        keys = part_digests(texts, parts.starts)[:, 0].tolist()
        for key, split in zip(keys, splits, strict=True):
            self.conversations.add(key, (1, split))
        for key in exchange_hashes(texts, parts.starts)[0].tolist():
            self.exchanges.add(key, 1)
        for i, key in enumerate(keys):
            if len(self.samples) < SAMPLES or key < self.samples[-1].key:
                self._add_sample(key, SPLITS[splits[i]], parts, i)

    def _add_sample(self, key: int, split: str, parts: Parts, number: int) -> None:
        if any(key == other.key for other in self.samples):
            return
        start, size = int(parts.starts[number]), int(parts.sizes[number])
        turns = parts.turns.slice(start, size)
        speakers, texts, weights = (turns[name].to_pylist() for name in ("speaker", "text", "weight"))
        name, system = turns["conversation_id"][0].as_py(), turns[SYSTEM.name][0].as_py()
        sample = Sample(key, name, split, speakers, texts, weights, system)
        insort(self.samples, sample, key=lambda each: each.key)
        del self.samples[SAMPLES:]

    @property
    def conversations_by_split(self) -> dict[str, int]:
        """The number of conversations in each split, each of them counted once, whatever its copies."""
        sizes = Counter(SPLITS[split] for _, split in self.conversations.values.values())
        return {split: sizes[split] * self.conversations.one_in for split in SPLITS}


def collect(files: Mapping[str, Path], parse: ParseConfig, clean: CleanConfig) -> tuple[Parsing, Figures]:
    """Read the files of a corpus, and count what is in them.

    Raises:
        InputError: a file is damaged.
    """
    parsing, figures = Parsing(parse, files, is_strict=False), Figures(clean)
    for conversation, turns in _with_progress(parsing.read(), figures):
        figures.add(conversation, turns)
    figures.count_waiting()
    return parsing, figures


def _with_progress(
    conversations: Iterator[tuple[Conversation, list[Turn]]], figures: Figures
) -> Iterator[tuple[Conversation, list[Turn]]]:
    """Log the progress a few times per second, for display in the terminal."""
    last_s = time.monotonic()
    for number, each in enumerate(conversations):
        if number % PROGRESS_EVERY == 0 and (now_s := time.monotonic()) - last_s > PROGRESS_SECONDS:
            last_s = now_s
            progress.info("inspect: %s conversations, %s turns", f"{number:,}", f"{figures.turns:,}")
        yield each


def _merge_copies(before: tuple[int, int], new: tuple[int, int]) -> tuple[int, int]:
    """One more copy; the stage `clean` keeps the copy in the test split, or else that in validation."""
    return before[0] + new[0], max(before[1], new[1])
