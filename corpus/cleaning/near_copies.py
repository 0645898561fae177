"""Near copies: finds, for each text, those of a set of texts that have most of their word pairs in common.

The similarity of two texts is the Jaccard similarity of their pairs of neighbouring words: the number of
pairs that both have, divided by the number of pairs that at least one of them has. The second occurrence of a
pair in a text is another pair than the first. If one of eight or more words is changed, the similarity is at
least 5/9.

The search is exact. Let the pairs of two texts be sorted from the rarest to the commonest one. If the texts
have a similarity of at least 1/2, then the first n // 2 + SHARED of the n pairs of one text and the first
m // 2 + SHARED of the m pairs of the other one have at least SHARED pairs in common (Wang, Li and Feng, "Can
we beat the prefix filtering?", SIGMOD 2012). Only these pairs are searched, and the similarity is computed
for the few texts that have so many of them in common.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from corpus.cleaning.word_pairs import Hashes, WordPairs, spans

THRESHOLD = 0.5
"""The smallest similarity of a near copy. `find`, `_find` and `_is_rare` depend on this value."""
FEWEST_WORDS = 8
SHARED = 3
"""More mean fewer similarities to compute, but a longer search. FEWEST_WORDS limits it to 4."""
ELEMENTS_AT_ONCE = 1 << 21

Numbers = NDArray[np.int64]


class Matches(NamedTuple):
    """Pairs of similar texts."""

    queries: Numbers
    """The positions of the texts that were searched."""
    twins: Numbers
    """The positions of the similar texts in the index."""
    similarities: NDArray[np.float64]


class _Elements(NamedTuple):
    """The word pairs of texts by their numbers; in each text, the rarest come first."""

    numbers: Numbers
    """The number of each pair and its occurrence, or -1 if the index does not have it."""
    starts: Numbers


class NearCopyIndex:
    """Texts of which near copies are searched."""

    def __init__(self, texts: WordPairs, *, elements_at_once: int = ELEMENTS_AT_ONCE) -> None:
        """
        Args:
            elements_at_once: about so many pairs are compared at once, which limits the memory.
        """
        self._elements_at_once = elements_at_once
        self._vocabulary, pairs, counts = np.unique(texts.hashes, return_inverse=True, return_counts=True)
        rarest_first = np.lexsort((self._vocabulary, counts))
        self._ranks = np.empty(len(counts), np.int64)
        self._ranks[rarest_first] = np.arange(len(counts))
        self._slot_bits = 1 + len(counts).bit_length()
        per_slot = np.bincount(self._slots_of(self._vocabulary), minlength=1 << self._slot_bits)
        self._slots = np.concatenate([[0], np.cumsum(per_slot)])
        self._largest_slot = int(per_slot.max(initial=0))
        ranks, occurrences = _sorted_by_rank(self._ranks[pairs], texts.starts)
        most = np.zeros(len(counts), np.int64)
        np.maximum.at(most, ranks, occurrences + 1)
        self._first_numbers = np.concatenate([[0], np.cumsum(most)])
        self._texts = _Elements(self._first_numbers[ranks] + occurrences, texts.starts)
        self._sizes = texts.sizes
        self._is_forgotten = np.zeros(len(self._sizes), bool)
        self._write_postings()

    def __len__(self) -> int:
        return len(self._sizes)

    def forget(self, texts: Numbers) -> None:
        """Do not find these texts of the index any more."""
        self._is_forgotten[texts] = True
        # A rebuilt index costs as much as some searches, so it waits until it has become much smaller.
        if 8 * np.count_nonzero(self._is_forgotten[self._postings]) > len(self._postings):
            self._write_postings()

    def find(self, texts: WordPairs) -> Matches:
        """The near copies of each text, in the order of `texts`."""
        sizes = texts.sizes
        ranks = self._ranks_of(texts.hashes)
        num_known = np.diff(np.concatenate([[0], np.cumsum(ranks >= 0)])[texts.starts])
        rows = np.flatnonzero(2 * num_known >= sizes)
        positions, starts = spans(texts.starts, rows)
        ranks, occurrences = _sorted_by_rank(ranks[positions], starts)
        numbers = self._first_numbers[ranks] + occurrences
        is_known = (ranks >= 0) & (numbers < self._first_numbers[ranks + 1])
        elements = _Elements(np.where(is_known, numbers, -1), starts)
        own = np.repeat(np.arange(len(rows)), np.diff(starts))
        is_rare = _is_rare(starts) & is_known
        owners, rare = own[is_rare], elements.numbers[is_rare]
        costs = (self._posting_starts[rare + 1] - self._posting_starts[rare]) * sizes[rows][owners]
        pieces = np.cumsum(costs) // self._elements_at_once
        # All rare pairs of one text are in the piece of the first of them, so that no match is found twice.
        pieces = pieces[np.searchsorted(owners, owners)]
        edges = np.flatnonzero(np.diff(pieces, prepend=-1, append=-1))
        found = [self._find(elements, owners[start:end], rare[start:end]) for start, end in pairwise(edges)]
        found.append(Matches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)))
        queries, twins, similarities = map(np.concatenate, zip(*found, strict=True))
        return Matches(rows[queries], twins, similarities)

    def _find(self, texts: _Elements, owners: Numbers, rare: Numbers) -> Matches:
        """The matches of texts that have the given rare pairs; `owners` has the text of each pair."""
        positions, _ = spans(self._posting_starts, rare)
        queries = np.repeat(owners, self._posting_starts[rare + 1] - self._posting_starts[rare])
        twins = self._postings[positions]
        query_sizes, twin_sizes = np.diff(texts.starts)[queries], self._sizes[twins]
        is_possible = (2 * twin_sizes >= query_sizes) & (2 * query_sizes >= twin_sizes)
        keys = np.sort(queries[is_possible] << 32 | twins[is_possible])
        shared = len(keys) - SHARED + 1
        candidates = np.unique(keys[:shared][keys[:shared] == keys[SHARED - 1 :]]) if shared > 0 else keys[:0]
        queries, twins = candidates >> 32, candidates & 0xFFFFFFFF
        common = _common(texts, queries, self._texts, twins)
        either = np.diff(texts.starts)[queries] + self._sizes[twins] - common
        similarities = common / either
        is_match = (similarities >= THRESHOLD) & ~self._is_forgotten[twins]
        return Matches(queries[is_match], twins[is_match], similarities[is_match])

    def _write_postings(self) -> None:
        """Store, for each pair, the texts that have it among their rarest pairs."""
        own = np.repeat(np.arange(len(self)), self._sizes)
        is_used = _is_rare(self._texts.starts) & ~self._is_forgotten[own]
        numbers, texts = self._texts.numbers[is_used], own[is_used]
        self._postings = texts[np.argsort(numbers, kind="stable")]
        per_number = np.bincount(numbers, minlength=int(self._first_numbers[-1]))
        self._posting_starts = np.concatenate([[0], np.cumsum(per_number)])

    def _ranks_of(self, hashes: Hashes) -> Numbers:
        """The rank of each pair in the index, from the rarest one on; -1 for other pairs."""
        slots = self._slots_of(hashes)
        ranks = np.full(len(hashes), -1, np.int64)
        rows = np.flatnonzero(self._slots[slots + 1] > self._slots[slots])
        hashes, positions = hashes[rows], self._slots[slots[rows]]
        for _ in range(self._largest_slot):  # a search that halves an interval takes five times as long
            is_equal = self._vocabulary[positions] == hashes
            ranks[rows[is_equal]] = self._ranks[positions[is_equal]]
            rows, hashes = rows[~is_equal], hashes[~is_equal]
            positions = np.minimum(positions[~is_equal] + 1, len(self._vocabulary) - 1)
        return ranks

    def _slots_of(self, hashes: Hashes) -> Numbers:
        """The slot of each hash. Hashes in ascending order are in the order of their slots."""
        return (hashes >> np.uint64(64 - self._slot_bits)).astype(np.int64)


def _sorted_by_rank(ranks: Numbers, starts: Numbers) -> tuple[Numbers, Numbers]:
    """The ranks sorted in each text, and how often each of them has occurred before in its text."""
    own = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    keys = np.sort(own << 32 | (ranks + 1))
    is_new = np.diff(keys, prepend=-1) != 0
    first = np.flatnonzero(is_new)
    occurrences = np.arange(len(keys)) - first[np.cumsum(is_new) - 1]
    return (keys & 0xFFFFFFFF) - 1, occurrences


def _is_rare(starts: Numbers) -> NDArray[np.bool_]:
    """Whether each pair is one of the rarest n // 2 + SHARED of its text, which has n pairs."""
    sizes = np.diff(starts)
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
    return positions < np.repeat(sizes // 2 + SHARED, sizes)


def _common(texts: _Elements, rows: Numbers, others: _Elements, other_rows: Numbers) -> Numbers:
    """The number of pairs that both texts of each candidate have."""
    keys = []
    for elements, chosen in ((texts, rows), (others, other_rows)):
        positions, starts = spans(elements.starts, chosen)
        numbers = elements.numbers[positions]
        candidates = np.repeat(np.arange(len(chosen)), np.diff(starts))
        is_known = numbers >= 0
        keys.append(candidates[is_known] << 32 | numbers[is_known])
    both = np.sort(np.concatenate(keys))
    return np.bincount(both[1:][both[1:] == both[:-1]] >> 32, minlength=len(rows))
