"""Each step of a training is shown once, in the log of the run or in the terminal alone."""

import logging
import re

import pytest

from tasks.prefect_api import training_progress
from tasks.prefect_api.training_progress import TrainingProgress

STEP = {
    "kind": "step",
    "progress": 0.5,
    "loss": 1.5,
    "accuracy": 0.4,
    "tokens_per_second": 900.0,
    "seconds_left": 9,
}


def shown(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.name, re.findall(r"step \d", record.getMessage())[0]) for record in caplog.records]


def test_the_step_that_is_logged_is_not_shown_a_second_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    progress = TrainingProgress()
    progress({**STEP, "step": 1})
    progress.next_log_s = 0
    progress({**STEP, "step": 2})
    progress({**STEP, "step": 3})
    assert shown(caplog) == [("progress", "step 1"), ("tasks.train", "step 2"), ("progress", "step 3")]


def test_the_score_in_a_line_is_said_to_be_that_of_a_validation() -> None:
    assert "accuracy 40.0%  validation 0.472 bits per byte  900 tokens/s" in training_progress.step_line(
        {**STEP, "step": 1}, 0.472
    )
