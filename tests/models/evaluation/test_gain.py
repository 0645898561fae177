"""The gain of a model over another one: the estimate, its interval, and the share of errors that it allows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.evaluation.gain import TOTAL_ERROR, error_of_decision, measure_gain

LN2 = math.log(2)


def scores(saved_bits, sizes):
    """Two models' scores on groups of these sizes; the first one needs `saved_bits` fewer per byte."""
    old = {f"g{i}": [2 * LN2 * size, size] for i, size in enumerate(sizes)}
    pairs = zip(old.items(), saved_bits, strict=True)
    return {name: [nats - bits * LN2 * size, size] for (name, (nats, size)), bits in pairs}, old


def test_the_gain_is_the_difference_of_the_bits_per_byte():
    gain = measure_gain(*scores([0.5, 0.1], [100, 300]), error=0.05)
    assert gain.bits == pytest.approx((0.5 * 100 + 0.1 * 300) / 400)
    assert gain.groups == 2


def test_for_equal_groups_the_interval_is_that_of_students_t_test():
    bits = [0.1, 0.3, 0.2, 0.25, 0.15]
    gain = measure_gain(*scores(bits, [100] * 5), error=0.05)
    assert gain.lower == pytest.approx(
        np.mean(bits) - 2.13185 * np.std(bits, ddof=1) / math.sqrt(5), abs=1e-5
    )


def test_a_gain_that_is_the_same_in_all_groups_is_certain_and_one_group_is_never_certain():
    assert measure_gain(*scores([0.1] * 9, range(100, 1000, 100)), error=0.01).lower == pytest.approx(0.1)
    assert measure_gain(*scores([0.1], [100]), error=0.01).lower == -math.inf


def test_one_large_group_among_small_ones_does_not_count_as_many_groups():
    bits = [0.1, 0.3, 0.2, 0.25, 0.15, 0.2, 0.1, 0.3, 0.2]
    even = measure_gain(*scores(bits, [100] * 9), error=0.01)
    uneven = measure_gain(*scores(bits, [100_000] + [100] * 8), error=0.01)
    assert even.lower > 0.1
    assert uneven.lower < 0


def test_scores_on_different_groups_or_bytes_are_not_compared():
    new, old = scores([0.1, 0.1], [100, 100])
    for other in ({**old, "g2": [1.0, 5]}, {**old, "g1": [1.0, 90]}, {"g0": old["g0"]}):
        with pytest.raises(InputError, match="different test replies"):
            measure_gain(new, other, error=0.05)


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 10**6)), min_size=2, max_size=40),
    st.floats(0.001, 0.5),
)
def test_the_lower_limit_is_below_the_gain_and_swapped_models_have_the_opposite_gain(groups, error):
    new, old = scores(*zip(*groups, strict=True))
    gain, opposite = measure_gain(new, old, error), measure_gain(old, new, error)
    assert gain.lower <= gain.bits + 1e-9
    assert gain.bits == pytest.approx(-opposite.bits, abs=1e-9)


def test_the_errors_of_all_decisions_together_are_the_total_error():
    assert error_of_decision(1) == pytest.approx(0.0304, abs=1e-4)
    assert sum(map(error_of_decision, range(1, 100_000))) == pytest.approx(TOTAL_ERROR, rel=1e-3)
    assert sum(map(error_of_decision, range(1, 100_000))) < TOTAL_ERROR


@pytest.mark.parametrize("count", [8, 30])
def test_a_model_that_is_no_better_seems_better_no_more_often_than_the_error_says(count):
    error, tries, spread = 0.0304, 1000, 1.8
    rng = np.random.default_rng(count)
    false = 0
    for _ in range(tries):
        sizes = np.exp(rng.normal(7, spread, count)) + 50
        bits = rng.normal(0, 1, count) / np.sqrt(sizes) * rng.exponential(1, count)
        false += measure_gain(*scores(bits, sizes), error).lower > 0
    assert false / tries < error + 3 * math.sqrt(error / tries)
