"""Compares two intervals for the gain of a model: Student's over groups, and the percentile bootstrap.

python -m benchmarks.intervals
    about two minutes; the table is the same each time

Two equal models are simulated on groups of very different sizes, with heavy-tailed differences. The table
gives the share of the comparisons in which one of them seems better, for two probabilities that are allowed.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.evaluation.gain import Groups, error_of_decision, measure_gain
from models.markdown import markdown_table

DECISIONS = (1, 3)
COUNTS = (8, 15, 30, 100)
SPREAD = 1.8  # of the logarithms of the sizes
COMPARISONS, BOOTSTRAPPED, RESAMPLES = 6000, 1500, 2000

Numbers = NDArray[np.float64]


def equal_models(count: int, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """The bytes of each group, and the bits that the first of two equal models saves there."""
    sizes = np.round(np.exp(rng.normal(7, SPREAD, count))) + 50
    return sizes, rng.normal(0, 1, count) * np.sqrt(sizes) * (0.3 + rng.exponential(1, count))


def scores(sizes: Numbers, saved: Numbers) -> tuple[Groups, Groups]:
    new = {
        str(i): [-bits * math.log(2), size] for i, (bits, size) in enumerate(zip(saved, sizes, strict=True))
    }
    return new, {name: [0.0, size] for name, (_, size) in new.items()}


def bootstrap_lower(sizes: Numbers, saved: Numbers, error: float, rng: np.random.Generator) -> float:
    """The quantile of the gains of RESAMPLES samples of the groups, drawn with replacement."""
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    return float(np.quantile((drawn @ saved) / (drawn @ sizes), error))


def false_promotions(count: int, error: float) -> tuple[float, float]:
    """The shares of comparisons of equal models in which the lower limit of each interval exceeds 0."""
    rng = np.random.default_rng(count)
    student = bootstrap = 0
    for number in range(COMPARISONS):
        sizes, saved = equal_models(count, rng)
        student += measure_gain(*scores(sizes, saved), error).lower > 0
        if number < BOOTSTRAPPED:
            bootstrap += bootstrap_lower(sizes, saved, error, rng) > 0
    return student / COMPARISONS, bootstrap / BOOTSTRAPPED


def main() -> None:
    rows = []
    for count in COUNTS:
        row: dict[str, object] = {"groups": count}
        for error in map(error_of_decision, DECISIONS):
            student, bootstrap = false_promotions(count, error)
            row |= {
                f"Student's, {error:.2%}": f"{student:.2%}",
                f"bootstrap, {error:.2%}": f"{bootstrap:.2%}",
            }
        rows.append(row)
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
