"""Divergence: how different two data sets are, and how different two halves of one data set are."""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from corpus.contract.figures import PARTS

COMMON_WORDS = 1000
Histogram = NDArray[np.int64]
Mask = NDArray[np.bool_]
Half = TypeVar("Half")


class Words(NamedTuple):
    """The words of a data set."""

    counts: Histogram
    """How often each word of a list occurs; compared data sets have the same list."""
    total: int
    """The number of all words, also of those that are not on the list."""

    @property
    def common(self) -> NDArray[np.int64]:
        """The positions of the COMMON_WORDS commonest words."""
        order = np.argsort(-self.counts, kind="stable")[:COMMON_WORDS]
        return order[self.counts[order] > 0]

    def histogram(self, words: NDArray[np.int64]) -> Histogram:
        """The counts of the words at these positions, and in the last bin the count of all other words."""
        counts = self.counts[words]
        return np.append(counts, self.total - counts.sum())

    def coverage_of(self, other: "Words") -> float:
        """The share of the words of another data set that are among the commonest words of this one."""
        return float(other.counts[self.common].sum() / other.total) if other.total else 0.0


def divergence(first: Histogram, second: Histogram) -> float:
    """The Jensen-Shannon divergence of two histograms in bits: 0 if they are proportional, at most 1.

    H((P + Q) / 2) - (H(P) + H(Q)) / 2, where H is Shannon's entropy: J. Lin, Divergence Measures Based on the
    Shannon Entropy, IEEE Transactions on Information Theory 37 (1), 1991. If a histogram is empty, nothing is
    known of it, and the divergence is 1.
    """
    return float(divergence_terms(first, second).sum())


def divergence_terms(first: Histogram, second: Histogram) -> NDArray[np.float64]:
    """What each bin contributes to the divergence."""
    if not first.sum() or not second.sum():
        return np.full(len(first), 1 / len(first))
    p, q = first / first.sum(), second / second.sum()
    return _entropy_terms((p + q) / 2) - (_entropy_terms(p) + _entropy_terms(q)) / 2


def common_words(first: Words, second: Words) -> NDArray[np.int64]:
    """The positions of the words that are among the COMMON_WORDS commonest of either data set."""
    return np.union1d(first.common, second.common)


def word_divergence(first: Words, second: Words) -> float:
    """The divergence of two data sets in their common words; all other words together count as one word."""
    words = common_words(first, second)
    return divergence(first.histogram(words), second.histogram(words))


def coverage_loss(reference: Words, other: Words) -> float:
    """How much smaller the share of the reference's commonest words is in another data set than in itself.

    The share of a text that a list of words covers is its lexical coverage: I. S. P. Nation, How Large a
    Vocabulary Is Needed for Reading and Listening?, The Canadian Modern Language Review 63 (1), 2006. If a
    data set has no words, nothing is known of it, and the loss is 1.
    """
    if not reference.total or not other.total:
        return 1.0
    return reference.coverage_of(reference) - reference.coverage_of(other)


def largest_between_halves(half: Callable[[Mask], Half], difference: Callable[[Half, Half], float]) -> float:
    """The largest difference between two halves of a data set.

    Args:
        half: returns the half that consists of the parts that a mask selects.
    """
    return max(difference(half(mask), half(~mask)) for mask in _halves())


def _halves() -> Iterator[Mask]:
    """Yield each choice of half of the parts of a data set."""
    for chosen in combinations(range(PARTS), PARTS // 2):
        mask = np.zeros(PARTS, bool)
        mask[list(chosen)] = True
        yield mask


def _entropy_terms(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return -shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
