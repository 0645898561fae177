from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training.config import TrainConfig
from models.training.schedule import learning_rate_at


def test_the_rate_rises_for_the_warm_up_and_then_falls_to_0() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate_at(step, step / 1000, config) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) == 9
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert all(a > b for a, b in pairwise(rates[9:]))
    assert rates[-1] == 0


def test_a_training_shorter_than_its_warm_up_still_reaches_a_high_rate() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_steps=1000)
    assert max(learning_rate_at(step, step / 20, config) for step in range(20)) > 0.8


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 1000))
def test_the_rate_is_never_negative_nor_above_its_peak(step: int, progress: float, warmup: int) -> None:
    config = TrainConfig(learning_rate=0.5, warmup_steps=warmup)
    assert 0 <= learning_rate_at(step, progress, config) <= 0.5


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_the_rate_of_a_night_is_full_until_its_cool_down_and_ends_at_0(step: int, progress: float) -> None:
    config = TrainConfig(learning_rate=0.5, warmup_steps=0)
    rate = learning_rate_at(step, progress, config, stable_share=0.75)
    assert rate == 0.5 if progress <= 0.75 else 0 <= rate < 0.5
    assert learning_rate_at(step, 1.0, config, stable_share=0.75) == 0
