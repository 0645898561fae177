"""Comparison: how far the figures of new data are from those of the accepted data, and how far they may be.

The limit of a divergence is FACTOR times the largest one between two halves of the accepted data, and at
least a floor. The limits for few items are larger: if none of n items has a property, up to 3 / n of all
items may have it (J. A. Hanley and A. Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249
(13), 1983). Decision 19 in docs/decisions/ has the measurements behind these numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.contract.divergence import (
    COMMON_WORDS,
    Mask,
    Words,
    common_words,
    coverage_loss,
    divergence,
    divergence_terms,
    largest_between_halves,
    word_divergence,
)
from corpus.contract.figures import PARTS, Figures

FACTOR = 2.0
LENGTH_FLOOR = 0.01  # bits
WORD_FLOOR = 0.02  # bits
COVERAGE_FLOOR = 0.03
SHARE_FACTOR, SHARE_FLOOR = 2.0, 0.01
LEAST_CONVERSATIONS = 0.6
SHOWN_WORDS = 5
NO_LIMIT = "none: too few groups"
ALL_PARTS = np.full(PARTS, True)


@dataclass(frozen=True)
class Difference:
    """One figure of the accepted and of the new data, for people, and whether it is within its limit."""

    figure: str
    accepted: str
    new: str
    difference: str
    limit: str
    excess: float
    """The difference divided by its limit."""

    @property
    def is_too_large(self) -> bool:
        return self.excess > 1

    def text(self) -> str:
        return (
            f"{self.figure}: {self.accepted} before, {self.new} now "
            f"(difference {self.difference}, limit {self.limit})"
        )


def compare(accepted: Figures, new: Figures) -> list[Difference]:
    """The difference of each figure. Both data sets have at least one conversation."""
    turns = min(sum(accepted.turns), sum(new.turns))
    conversations = min(sum(accepted.conversations), sum(new.conversations))
    return [
        _conversations(sum(accepted.conversations), sum(new.conversations)),
        _lengths(
            "turns per conversation",
            (accepted.turns_per_conversation, new.turns_per_conversation),
            totals=(accepted.turns, new.turns),
        ),
        _lengths(
            "characters per turn",
            (accepted.characters_per_turn, new.characters_per_turn),
            totals=(accepted.characters, new.characters),
        ),
        *_words(accepted, new),
        _share("turns that are empty once cleaned", accepted.empty_turns, new.empty_turns, of=turns),
        _share(
            "repeated conversations",
            accepted.repeated_conversations,
            new.repeated_conversations,
            of=conversations,
        ),
        _share("lines that cannot be used", accepted.rejected_lines, new.rejected_lines, of=turns),
    ]


def too_large(differences: Sequence[Difference]) -> list[Difference]:
    """The differences over their limits; the one that is most over its limit comes first."""
    return sorted((each for each in differences if each.is_too_large), key=lambda each: -each.excess)


def _conversations(accepted: int, new: int) -> Difference:
    """To lose conversations is a difference; to gain some is none."""
    return Difference(
        figure="conversations",
        accepted=f"{accepted:,}",
        new=f"{new:,}",
        difference=f"{new / accepted - 1:+.0%}",
        limit=f"{LEAST_CONVERSATIONS - 1:+.0%}",
        excess=LEAST_CONVERSATIONS * accepted / new,
    )


def _lengths(
    figure: str,
    histograms: tuple[list[list[int]], list[list[int]]],
    totals: tuple[list[int], list[int]],
) -> Difference:
    """The divergence of two histograms.

    Args:
        histograms: those of the parts of the accepted data, and of the new data.
        totals: the sums of the lengths in these parts.
    """
    parts, new = np.array(histograms[0]), np.array(histograms[1]).sum(axis=0)
    accepted = parts.sum(axis=0)
    found = divergence(accepted, new)
    largest = largest_between_halves(lambda mask: parts[mask].sum(axis=0), divergence)
    limit = max(FACTOR * largest, LENGTH_FLOOR) + _chance(min(accepted.sum(), new.sum()))
    return Difference(
        figure=figure,
        accepted=f"{sum(totals[0]) / accepted.sum():.1f} on average",
        new=f"{sum(totals[1]) / new.sum():.1f} on average",
        difference=f"{found:.3f} bits",
        limit=_bits(limit),
        excess=float(found / limit),
    )


def _words(accepted: Figures, new: Figures) -> list[Difference]:
    """The divergence of the commonest words, and the loss of coverage."""
    names = list(dict.fromkeys([*accepted.word_counts, *new.word_counts]))
    half = _words_of_parts(accepted, names)
    before, now = half(ALL_PARTS), _words_of_parts(new, names)(ALL_PARTS)
    found, loss = word_divergence(before, now), coverage_loss(before, now)
    limit = max(FACTOR * largest_between_halves(half, word_divergence), WORD_FLOOR)
    loss_limit = max(FACTOR * largest_between_halves(half, coverage_loss), COVERAGE_FLOOR)
    rarer, commoner = _changed_words(before, now, names)
    return [
        Difference(
            figure=f"the {COMMON_WORDS:,} commonest words",
            accepted=f"more of {rarer}",
            new=f"more of {commoner}",
            difference=f"{found:.3f} bits",
            limit=_bits(limit),
            excess=found / limit,
        ),
        Difference(
            figure=f"words that are among the {COMMON_WORDS:,} commonest of the accepted data",
            accepted=f"{before.coverage_of(before):.1%}",
            new=f"{before.coverage_of(now):.1%}",
            difference=_points(-loss),
            limit=NO_LIMIT if loss_limit >= 1 else _points(-loss_limit),
            excess=loss / loss_limit,
        ),
    ]


def _words_of_parts(figures: Figures, names: Sequence[str]) -> Callable[[Mask], Words]:
    """A function that returns the words of the parts that a mask selects, counted in the order of `names`."""
    none = [0] * PARTS
    counts_WP = np.array([figures.word_counts.get(name, none) for name in names]).reshape(-1, PARTS)
    totals_P = np.array(figures.words)
    return lambda parts: Words(counts_WP[:, parts].sum(axis=1), int(totals_P[parts].sum()))


def _changed_words(before: Words, now: Words, names: Sequence[str]) -> tuple[str, str]:
    """The words that contribute most to the divergence: first those that are rarer now, then the others."""
    words = common_words(before, now)
    terms = divergence_terms(before.histogram(words), now.histogram(words))[:-1]
    by_term = words[np.argsort(-terms, kind="stable")]
    rise = now.counts[by_term] / max(now.total, 1) - before.counts[by_term] / max(before.total, 1)
    rarer, commoner = by_term[rise < 0][:SHOWN_WORDS], by_term[rise > 0][:SHOWN_WORDS]
    return _listed([names[i] for i in rarer]), _listed([names[i] for i in commoner])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "no word"


def _share(figure: str, accepted: float, new: float, *, of: int) -> Difference:
    """A larger share is a difference; a smaller one is none.

    Args:
        of: the number of items of the smaller data set.
    """
    limit = SHARE_FACTOR * accepted + SHARE_FLOOR + _chance(of)
    return Difference(
        figure=figure,
        accepted=f"{accepted:.1%}",
        new=f"{new:.1%}",
        difference=_points(new - accepted),
        limit=_points(limit - accepted),
        excess=new / limit,
    )


def _chance(items: int) -> float:
    """The share of the items that may have a property by chance if none had it before."""
    return 3 / items


def _bits(limit: float) -> str:
    """The limit of a divergence, which is never more than 1 bit."""
    return NO_LIMIT if limit >= 1 else f"{limit:.3f} bits"


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0.0:+.1f} percentage points"  # + 0.0: no minus sign before zero
