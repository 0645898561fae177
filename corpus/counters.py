"""Counters: count what a corpus of any size holds, in a bounded amount of memory.

While there are few different values, all counts are exact. Later they are estimates, and the counters say so.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")

SAMPLED_KEYS = 1 << 18
FREQUENT_TEXTS = 1 << 15
TEXT_CHARACTERS = 200  # texts are compared by their beginnings, so that long ones do not fill the memory
DIFFERENT_LENGTHS = 1 << 15


class HashSample(Generic[V]):
    """Values by keys that are hashes; if there are too many keys, the values of a random share of them."""

    def __init__(self, merge: Callable[[V, V], V], limit: int = SAMPLED_KEYS) -> None:
        """
        Args:
            merge: the value of a key that is added again, from the value before and the new one.
            limit: the largest number of keys in memory.
        """
        self.values: dict[int, V] = {}
        self.one_in = 1
        """One in so many keys is in the sample."""
        self._merge, self._limit = merge, limit

    def add(self, key: int, value: V) -> None:
        """Add a value, unless its key does not belong to the sample."""
        if key & (self.one_in - 1):  # the last bits of a hash choose the sample
            return
        values = self.values
        if key in values:
            values[key] = self._merge(values[key], value)
            return
        values[key] = value
        while len(values) > self._limit:
            self.one_in *= 2
            self.values = values = {k: v for k, v in values.items() if not k & (self.one_in - 1)}


class FrequentTexts:
    """Counts how often each text occurs; if there are too many different texts, the rarest are forgotten."""

    def __init__(self, limit: int = FREQUENT_TEXTS) -> None:
        self.total = 0
        self.missed = 0
        """By how much a count may be too low, because the text had been forgotten for a while."""
        self._counts: Counter[str] = Counter()
        self._limit = limit

    @property
    def counts(self) -> Mapping[str, int]:
        """The counts of the texts that are not forgotten."""
        return self._counts

    def add(self, texts: Sequence[str]) -> None:
        """Count texts, which are compared by their first TEXT_CHARACTERS characters."""
        self.add_counts(Counter(text[:TEXT_CHARACTERS] for text in texts))

    def add_counts(self, counts: Mapping[str, int]) -> None:
        """Add the number of times that each text occurs."""
        self.total += sum(counts.values())
        self._counts.update(counts)
        if len(self._counts) > 2 * self._limit:
            by_count = self._counts.most_common()
            self.missed += by_count[self._limit][1]
            self._counts = Counter(dict(by_count[: self._limit]))

    def most_common(self, number: int) -> list[tuple[str, int]]:
        """The commonest texts that occur more than once, each with its count."""
        return [(text, count) for text, count in self._counts.most_common(number) if count > 1]


class Lengths:
    """Counts how often each length occurs."""

    def __init__(self, limit: int = DIFFERENT_LENGTHS) -> None:
        self.longest = 0
        self._counts: Counter[int] = Counter()
        self._limit = limit

    @property
    def total(self) -> int:
        """How many lengths have been added."""
        return self._counts.total()

    def add(self, lengths: Sequence[int]) -> None:
        """Count lengths; if there are too many different ones, all are rounded down to three digits."""
        self.longest = max(self.longest, *lengths, 0)
        self._counts.update(lengths)
        if len(self._counts) > self._limit:
            counts, self._counts = self._counts, Counter()
            for length, count in counts.items():
                self._counts[length - length % 10 ** max(0, len(str(length)) - 3)] += count

    def quantile(self, share: float) -> int:
        """The smallest length that this share of all lengths does not exceed; 0 if nothing was counted."""
        wanted, so_far = share * self.total, 0
        for length in sorted(self._counts):
            so_far += self._counts[length]
            if so_far >= wanted:
                return length
        return 0
