"""How far a training came and why it ended, as text."""

import pytest

from models.training.launch import Summary
from tasks.run_page.training import comparison_text, training_text

PARAMS = {"train.max_minutes": 1.5, "train.max_epochs": 6.0, "train.patience": 3, "train.max_steps": 700}


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("max_minutes", ", ended by train.max_minutes=1.5"),
        ("max_epochs", ", ended by train.max_epochs=6.0"),
        ("max_steps", ", ended by train.max_steps=700"),
        ("patience", ", ended by train.patience=3 (early stopping)"),
        ("", ""),  # a training of an earlier release
    ],
)
def test_the_setting_that_ended_a_training_is_named_with_its_value(limit: str, why: str) -> None:
    summary = Summary(steps=739, seconds=99.2, stopped_by=limit, precision="fp32", device="cpu")
    assert training_text(summary, PARAMS) == f"739 steps in 1 min 39 s{why}"


def test_the_steps_of_the_champion_are_left_out_if_they_are_not_known() -> None:
    assert comparison_text(1, 876) == "champion v1 was trained for 876 steps"
    assert comparison_text(1, None) == comparison_text(None, None) == ""
