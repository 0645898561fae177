"""A training run with a time limit is repeated bit by bit, at whatever speed."""

import json
import time
from pathlib import Path

import pytest
import torch
from trainings import StopAt, lines, run_folder, train, weights

from models.training import trainer
from models.training.schedule import read_elapsed

LIMITED = {"max_minutes": 0.05, "max_epochs": 1e6, "checkpoint_seconds": 0.3}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def repeat(data: Path, folder: Path, earlier: Path) -> Path:
    run = run_folder(data, folder, **LIMITED)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "replay": str(earlier)}))
    return run


def summary(folder: Path) -> dict[str, object]:
    return json.loads((folder / "summary.json").read_text())  # type: ignore[no-any-return]


class Slow(StopAt):
    """Delays each step, as a slower machine would."""

    def is_set(self) -> bool:
        time.sleep(0.002)
        return super().is_set()


@pytest.fixture(scope="module")
def earlier(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a time limit that was stopped once and resumed."""
    torch.set_num_threads(1)
    folder = run_folder(data, tmp_path_factory.mktemp("earlier") / "run", **LIMITED)
    assert not trainer.train(folder, StopAt(3))
    assert train(folder)
    return folder


def test_the_elapsed_time_at_each_step_and_at_the_end_is_logged_once(earlier: Path) -> None:
    elapsed = read_elapsed(earlier)
    assert len(elapsed) == summary(earlier)["steps"] + 1  # type: ignore[operator]
    assert elapsed == sorted(elapsed) and elapsed[-1] >= 60 * 0.05


def test_a_slower_run_that_repeats_it_has_the_same_weights(earlier: Path, data: Path, tmp_path: Path) -> None:
    again = repeat(data, tmp_path / "again", earlier)
    assert trainer.train(again, Slow(10**6))
    assert summary(again)["stopped_by"] == "max_minutes"
    assert summary(again)["steps"] == summary(earlier)["steps"]
    assert [line["step"] for line in lines(again, "validation")] == [
        line["step"] for line in lines(earlier, "validation")
    ]
    assert weights(again) == weights(earlier)
    assert read_elapsed(again) == read_elapsed(earlier)


def test_a_repetition_that_was_stopped_and_resumed_has_the_same_weights(
    earlier: Path, data: Path, tmp_path: Path
) -> None:
    again = repeat(data, tmp_path / "again", earlier)
    assert not trainer.train(again, StopAt(2))
    assert train(again)
    assert weights(again) == weights(earlier)
