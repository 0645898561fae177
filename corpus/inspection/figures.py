"""Figures: what a corpus holds, and what a run with certain settings would train on.

The conversations are read one after another, as the stages `parse` and `clean` read them, and only counted.
"""

import logging
import time
from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from corpus.cleaning import conversations as cleaned
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.split import position_of, split_at, split_of, split_unit
from corpus.inspection.counters import FrequentTexts, HashSample, Lengths, hash_of
from corpus.readers.parse import ParseConfig, Parsing
from corpus.readers.turns import Conversation, Turn, group_of
from models.data.schemas import SPLITS

SAMPLES = 5
BATCH = 256  # conversations that are counted together
PROGRESS_EVERY = 1000  # conversations between two looks at the clock
PROGRESS_SECONDS = 0.3

progress = logging.getLogger("progress")


class Sample(NamedTuple):
    """A conversation of the sample: those with the smallest hashes, a random but repeatable choice."""

    key: int
    conversation: cleaned.Conversation


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
        self._waiting: list[cleaned.Conversation] = []

    def add(self, conversation: Conversation, turns: list[Turn]) -> None:
        """Clean a conversation, and count it, at the latest when `count_waiting` is called."""
        raw = cleaned.Conversation(
            id=conversation.id,
            group=group_of(conversation, turns),
            speakers=[turn.speaker for turn in turns],
            texts=[turn.text for turn in turns],
            roles=[turn.role for turn in turns],
            weights=[turn.weight for turn in turns],
            source_id=conversation.id,
        )
        self._waiting += cleaned.clean_conversation(raw, self.config, self.counts)
        if len(self._waiting) >= BATCH:
            self.count_waiting()

    def count_waiting(self) -> None:
        """Count the conversations that were added but not counted yet; many together take less time."""
        parts, self._waiting = self._waiting, []
        texts = [text for part in parts for text in part.texts]
        self.turns += len(texts)
        self.turns_each.add([len(part.texts) for part in parts])
        self.characters.add([len(text) for text in texts])
        self.words.add([text.count(" ") + 1 for text in texts])  # cleaned texts have single spaces
        self.replies.add(
            [part.texts[i] for part in parts for i in range(1, len(part.texts)) if part.weights[i] > 0]
        )
        for part in parts:
            self._add_hashes(part)

    def _add_hashes(self, part: cleaned.Conversation) -> None:
        position = position_of(split_unit(part, self.config))
        self.units.add(position, 1)
        if self.groups is not self.units:
            self.groups.add(position_of(part.group), 1)
        # A hash of numbers is the same in each process, unlike a hash of texts.
        hashes = [hash_of(text) for text in part.texts]
        key = hash(tuple(hashes))
        self.conversations.add(key, (1, SPLITS.index(split_at(position, self.config))))
        for exchange in pairwise(hashes):
            self.exchanges.add(hash(exchange), 1)
        if len(self.samples) < SAMPLES or key < self.samples[-1].key:
            self._add_sample(Sample(key, part))

    def _add_sample(self, sample: Sample) -> None:
        if all(sample.key != other.key for other in self.samples):
            insort(self.samples, sample, key=lambda each: each.key)
            del self.samples[SAMPLES:]

    def split_of(self, part: cleaned.Conversation) -> str:
        return split_of(split_unit(part, self.config), self.config)

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
