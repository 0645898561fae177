"""Shares: the effect of the weights of a corpus's sources.

A weight of at most 1 is the share of the source's groups (or conversations, see `CleanConfig.split_by`) that
all splits use. A hash of the name decides, independently of the hash that decides the split: a larger share
contains the smaller one, and nothing moves to another split. A weight of more than 1 says how often the
training split holds each conversation.
"""

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.arrays import number_array
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.conversations import Parts, first_rows
from corpus.cleaning.split import POSITIONS, UNITS_IN_MEMORY, position_of
from models.errors import DataRejected

OUTSIDE = "conversations outside the share of their source"
COPIES = "copies of training conversations, for the weight of their source"


class Shares:
    """Which conversations of a corpus are used, and how often. Without weights, all of them are used once."""

    def __init__(self, config: CleanConfig) -> None:
        self._config = config
        self._weights = config.weights if isinstance(config, MixConfig) else {}
        self._sources = list(self._weights)
        self._read, self._used = Counter[str](), Counter[str]()
        self._source_numbers = [np.zeros(0, np.int64)]
        self._copies = [np.zeros(0, np.int64)]

    def used(self, turns: pa.Table) -> pa.Table:
        """The conversations that are in the shares of their sources."""
        if not self._weights:
            return turns
        first = first_rows(turns)
        ids = [self._source_and_id(name) for name in _values(turns, "conversation_id", first)]
        groups = _values(turns, "group", first)
        by_group = self._config.split_by == "group"
        is_used = np.zeros(len(first), bool)
        for i, ((source, own_id), group) in enumerate(zip(ids, groups, strict=True)):
            is_used[i] = is_in_share(group if by_group else own_id, self._weights[source])
            self._read[source] += 1
            self._used[source] += bool(is_used[i])
        sizes = np.diff([*first, turns.num_rows])
        return turns.take(number_array(np.flatnonzero(np.repeat(is_used, sizes))))

    def units(self, parts: Parts) -> list[str]:
        """The names of what is never divided between splits; they do not depend on other sources."""
        if len(self._weights) < 2 or self._config.split_by == "group":
            return parts.units
        return [self._source_and_id(unit)[1] for unit in parts.units]

    def add(self, parts: Parts, units: list[str]) -> None:
        """Add cleaned conversations and their `units`, in the order in which they are written."""
        if not self._weights:
            return
        names = _values(parts.turns, "conversation_id", parts.starts[:-1])
        sources = [self._source_and_id(name)[0] for name in names]
        copies = [
            _number_of_copies(unit, self._weights[source])
            for source, unit in zip(sources, units, strict=True)
        ]
        self._source_numbers.append(np.array([self._sources.index(source) for source in sources], np.int64))
        self._copies.append(np.array(copies, np.int64))

    def check(self, counts: Counter[str]) -> None:
        """Count the conversations that are not used.

        Raises:
            DataRejected: the share of a source contains no conversation.
        """
        if not self._weights:
            return
        counts[OUTSIDE] += self._read.total() - self._used.total()
        for source in sorted(source for source, used in self._used.items() if not used):
            raise DataRejected(
                f"{source}: the weight {self._weights[source]:g} leaves none of its {self._read[source]:,} "
                "conversations: give it a larger weight, or leave the source out"
            )

    def copies(
        self, stays: NDArray[np.bool_], is_training: NDArray[np.bool_], counts: Counter[str]
    ) -> NDArray[np.int64]:
        """The number of copies that each conversation has beside itself.

        The conversations of each source are counted without the copies.

        Args:
            stays: for each conversation that was added, whether it is written at all.
            is_training: whether it belongs to the training split.
        """
        if not self._weights:
            return np.zeros(len(stays), np.int64)
        used = np.bincount(np.concatenate(self._source_numbers)[stays], minlength=len(self._sources))
        for source, number in zip(self._sources, used.tolist(), strict=True):
            counts[f"conversations used from {source}"] += number
        copies = np.where(stays & is_training, np.concatenate(self._copies), 0)
        counts[COPIES] += int(copies.sum())
        return copies

    def _source_and_id(self, conversation: str) -> tuple[str, str]:
        """The name of a conversation's source, and the id that the conversation has there."""
        if len(self._weights) == 1:
            return self._sources[0], conversation
        source, _, own_id = conversation.partition("/")
        return source, own_id


@lru_cache(UNITS_IN_MEMORY)
def is_in_share(unit: str, share: float) -> bool:
    """Whether a group or conversation belongs to this share of its source."""
    return share >= 1 or position_of(f"share of a source: {unit}") < share * POSITIONS


def _number_of_copies(unit: str, weight: float) -> int:
    """For a weight of 2.5, there is one copy of all conversations, and another one of one half of them."""
    return sum(is_in_share(unit, weight - number) for number in range(1, math.ceil(weight)))


def _values(turns: pa.Table, name: str, rows: NDArray[np.int64]) -> list[str]:
    values: list[str] = turns[name].combine_chunks().take(number_array(rows)).to_pylist()
    return values
