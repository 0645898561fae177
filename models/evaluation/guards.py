"""Guards: a better score does not promote a model whose replies have certainly become worse.

Bits per byte say little about whole replies: a model that gives every context the likeliest reply, or that
does not end its replies, may score well. Both models answer the same contexts of the test split greedily. A
guard fails if the share of replies with a property that nobody wants is certainly larger by more than
TOLERANCE than the champion's (Student's t for paired differences). The tests are corrected for their number
with the method of Holm (1979), so that a model whose replies are as good fails any guard with a probability
of at most ERROR.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.05
ERROR = 0.05
MIN_REPLIES = 20

Reply = tuple[bool, bool, str]
"""Whether the model ended its reply, whether the reply loops, and the reply, or a digest of it."""


class Guard(NamedTuple):
    """The comparison of one property of the replies."""

    name: str
    new: float
    """The share of the new model's replies with this property."""
    old: float
    """The share of the champion's replies with it."""
    holds: bool
    """False if the new model's share is certainly larger by more than TOLERANCE."""


def compare_replies(new: Sequence[Reply], old: Sequence[Reply]) -> list[Guard]:
    """The guards for the replies of two models to the same contexts; none for fewer than MIN_REPLIES."""
    if len(new) != len(old) or len(new) < MIN_REPLIES:
        return []
    shares = [(name, property_of(new), property_of(old)) for name, property_of in PROPERTIES.items()]
    is_worse = holm([_probability(ours - theirs) for _, ours, theirs in shares])
    return [
        Guard(name, float(ours.mean()), float(theirs.mean()), not each)
        for (name, ours, theirs), each in zip(shares, is_worse, strict=True)
    ]


def failure(guards: Sequence[Guard]) -> str:
    """Which guards do not hold, with their figures; "" if all hold."""
    return ", ".join(
        f"{guard.new:.0%} of them instead of {guard.old:.0%} {guard.name}"
        for guard in guards
        if not guard.holds
    )


def _probability(differences: NDArray[np.float64]) -> float:
    """The probability of a mean difference as large as this one if the true one were TOLERANCE."""
    from scipy.special import stdtr  # takes a while to import

    count, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    if error == 0:
        return 0.0 if mean > TOLERANCE else 1.0
    return float(stdtr(count - 1, (TOLERANCE - mean) / error))


def holm(probabilities: Sequence[float]) -> list[bool]:
    """Which hypotheses are rejected so that the probability of any wrong rejection is at most ERROR."""
    rejected = [False] * len(probabilities)
    for rank, index in enumerate(sorted(range(len(probabilities)), key=probabilities.__getitem__)):
        if probabilities[index] > ERROR / (len(probabilities) - rank):
            break
        rejected[index] = True
    return rejected


Property = Callable[[Sequence[Reply]], NDArray[np.float64]]


def _commonest(replies: Sequence[Reply]) -> NDArray[np.float64]:
    texts = [text for *_, text in replies]
    commonest, _ = Counter(texts).most_common(1)[0]
    return np.array([text == commonest for text in texts], float)


def _repeated(replies: Sequence[Reply]) -> NDArray[np.float64]:
    counts = Counter(text for *_, text in replies)
    return np.array([counts[text] > 1 for *_, text in replies], float)


PROPERTIES: dict[str, Property] = {
    "were not ended by the model itself": lambda replies: np.array([not each[0] for each in replies], float),
    "repeat themselves": lambda replies: np.array([each[1] for each in replies], float),
    "equal the commonest reply": _commonest,
    "were given to several contexts": _repeated,
}
"""Properties that nobody wants, as a predicate of `replies`; each returns 1 or 0 for each reply."""
