"""Gain: by how many bits per byte a model is better than another one, and how certain that is.

Both models are scored on the same test text. The unit is the group (such as a movie), because the replies of
one group resemble each other: with d = the nats that the new model saves in a group, and b = the group's
bytes, the gain is the sum of d divided by ln 2 and by the sum of b.

The interval is Student's, for a ratio of sums over clusters (Cochran, Sampling Techniques, 6.4): the standard
error is computed from the residuals d - gain * b. Its degrees of freedom are those of the effective number of
groups, (sum of b)^2 / (sum of b^2) (Kish), so that one large group among many small ones does not count as
many groups. docs/decisions/0021-a-gain-must-be-certain.md compares it with the bootstrap.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.errors import InputError

TOTAL_ERROR = 0.05

Groups = Mapping[str, Sequence[float]]
"""For each group, its negative log-likelihood in nats and its number of bytes."""


class Gain(NamedTuple):
    """The bits per byte that a new model saves; negative if it needs more."""

    bits: float
    lower: float
    """The gain is at least this large, with the probability `confidence`; -infinity for a single group."""
    confidence: float
    groups: int


def measure_gain(new: Groups, old: Groups, error: float) -> Gain:
    """The gain of the new model over the old one on the groups that both were scored on.

    Args:
        error: the probability with which the true gain may be below the lower limit.

    Raises:
        InputError: the two models were scored on different text.
    """
    names = sorted(new)
    sizes = np.array([new[name][1] for name in names])
    if names != sorted(old) or not np.allclose(sizes, [old[name][1] for name in names], atol=0.5):
        raise InputError("the two models were scored on different test replies, so they cannot be compared")
    saved = np.array([old[name][0] - new[name][0] for name in names]) / math.log(2)
    bits = float(saved.sum() / sizes.sum())
    count = len(names)
    if count < 2:
        return Gain(bits, -math.inf, 1 - error, count)
    residuals = saved - bits * sizes
    standard_error = math.sqrt(count / (count - 1) * float((residuals**2).sum())) / float(sizes.sum())
    effective = float(sizes.sum()) ** 2 / float((sizes**2).sum())
    lower = bits - _student_quantile(1 - error, max(effective - 1, 1e-3)) * standard_error
    return Gain(bits, lower, 1 - error, count)


def error_of_decision(number: int) -> float:
    """The probability of a false promotion that decision number 1, 2, 3 ... on the same test text may have.

    The sum over all numbers is TOTAL_ERROR, because the sum of 1 / k^2 is pi^2 / 6: however often a model is
    retrained, the probability of ever promoting one that is not better is at most TOTAL_ERROR.
    """
    return TOTAL_ERROR * 6 / (math.pi * number) ** 2


def _student_quantile(probability: float, degrees: float) -> float:
    from scipy.special import stdtrit  # takes a while to import

    return float(stdtrit(degrees, probability))
