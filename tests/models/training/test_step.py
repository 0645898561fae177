"""How training reacts if a step has faulty figures or too little memory."""

import json
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trainings import StopAt, lines, run_folder, train, weights

from models.data.batches import Batch
from models.errors import InputError
from models.training import loop, trainer
from models.training.run_folder import Run
from models.training.step import GradientStep


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_error_of_one_half_is_raised_when_the_other_half_has_ended(data: Path, tmp_path: Path) -> None:
    run = Run.read(run_folder(data, tmp_path / "run"))
    step = loop.Training(run, threading.Event()).step
    step.threads = ThreadPoolExecutor(2)
    ended = []

    def work(part: int) -> None:
        if part == 0:
            raise MemoryError
        time.sleep(0.2)
        ended.append(part)

    with pytest.raises(MemoryError):
        step.in_parallel(work, [0, 1])
    assert ended == [1]


def spoil(monkeypatch: pytest.MonkeyPatch, steps: Callable[[GradientStep], bool], figure: float) -> None:
    """Replace the loss by `figure` and the gradients by NaN in the steps for which `steps` returns true."""
    original = GradientStep.gradient

    def gradient(self: GradientStep, *args: Any, **kwargs: Any) -> Tensor:
        step_sums = original(self, *args, **kwargs)
        if steps(self):
            step_sums[0] = figure
            for parameter in self.model.parameters():
                parameter.grad = torch.full_like(parameter, math.nan)
        return step_sums

    monkeypatch.setattr(GradientStep, "gradient", gradient)


class At:
    """A predicate that is true in the calls with these numbers; the first call has number 1."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.num_calls = calls, 0

    def __call__(self, _: GradientStep) -> bool:
        self.num_calls += 1
        return self.num_calls in self.calls


@pytest.mark.parametrize("figure", [math.nan, math.inf, 1e9])
def test_a_bad_step_is_skipped_with_its_batch_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: float
) -> None:
    spoil(monkeypatch, At(4), figure)
    folder = run_folder(data, tmp_path / "run")
    assert train(folder)
    (line,) = lines(folder, "skip")
    assert line["step"] == 3
    assert line["conversations"].split(", ")[0].isdecimal()
    assert json.loads((folder / "summary.json").read_text())["skipped_steps"] == 1


def test_a_skipped_step_leaves_the_weights_as_they_were(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.read(run_folder(data, tmp_path / "run"))
    training = loop.Training(run, threading.Event())
    before = {name: value.clone() for name, value in training.weights().items()}
    spoil(monkeypatch, lambda _: True, math.nan)
    training.train_step(np.arange(4), 0.1)
    for name, value in training.weights().items():
        assert torch.equal(value, before[name])
        assert value.grad is None
    assert training.state.step == 1


def test_after_three_bad_steps_it_goes_back_to_the_checkpoint_at_half_the_rate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(data, tmp_path / "run", log_every=1, warmup_steps=0)
    trainer.train(folder, StopAt(5))
    spoil(monkeypatch, At(3, 4, 5), math.nan)
    assert train(folder)
    rates = [line["learning_rate"] for line in lines(folder, "step")]
    steps = [line["step"] for line in lines(folder, "step")]
    assert steps == list(range(1, len(steps) + 1))  # no step is logged twice or left out
    falls = np.diff(rates)
    assert falls[4] < 10 * falls[3]  # the rate falls sharply after the checkpoint at step 5
    assert rates[5] == pytest.approx(rates[4] / 2, rel=0.1)
    assert not lines(folder, "skip")


def test_where_the_lower_rate_leads_nowhere_either_it_ends_and_names_the_batch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(data, tmp_path / "run", checkpoint_seconds=1e-9)
    trainer.train(folder, StopAt(2))
    spoil(monkeypatch, lambda _: True, math.inf)
    with pytest.raises(InputError, match=r"its batch: \d+.*; .*: lower train\.learning_rate \(now 0\.002\)"):
        train(folder)
    assert max(path.name for path in (folder / "checkpoints").iterdir()) == "000000002"


def test_the_lower_rate_outlives_a_stop(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(data, tmp_path / "run")
    training = loop.Training(Run.read(folder), StopAt(3), rate_scale=0.5)
    assert training.fit() is None
    assert loop.Training(Run.read(folder), threading.Event()).state.rate_scale == 0.5


def crowd(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception) -> None:
    """Raise `error` for each micro-batch of more than `rows` rows, as if memory were scarce."""
    original = GradientStep.differentiate

    def differentiate(self: GradientStep, part: Batch, tokens: int) -> Tensor:
        if len(part.inputs_BT) > rows:
            raise error
        return original(self, part, tokens)

    monkeypatch.setattr(GradientStep, "differentiate", differentiate)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB, max allowed: 9.07 GB)"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_too_little_memory_halves_the_parts_and_the_result_is_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    plenty, scarce = (run_folder(data, tmp_path / name, max_steps=8) for name in ("plenty", "scarce"))
    assert train(plenty)
    crowd(monkeypatch, 3, error)
    assert train(scarce)
    before, after = (lines(folder, "validation")[-1]["loss"] for folder in (plenty, scarce))
    assert after == pytest.approx(before, rel=1e-3)


def test_the_parts_that_fitted_are_kept_by_a_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (run_folder(data, tmp_path / name) for name in ("whole", "cut"))
    crowd(monkeypatch, 3, MemoryError())
    assert train(whole)
    trainer.train(cut, StopAt(4))
    monkeypatch.undo()  # memory is no longer scarce, but the number of parts must not change
    torch.set_num_threads(1)
    assert train(cut)
    assert weights(cut) == weights(whole)


def test_a_sequence_that_no_part_is_small_enough_for_ends_the_training_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(monkeypatch, 0, MemoryError())
    with pytest.raises(InputError, match="does not fit into memory: lower markup"):
        train(run_folder(data, tmp_path / "run"))


def test_other_errors_of_torch_are_not_taken_for_too_little_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(run_folder(data, tmp_path / "run"))


def test_the_cpus_allocator_says_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.empty(1 << 55)


def test_looks_without_a_better_score_end_the_training(data: Path, tmp_path: Path) -> None:
    folder = run_folder(
        data, tmp_path / "run", learning_rate=0.1, max_epochs=50, validations=50, patience=3, max_norm=1e9
    )
    assert train(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped_by"] == "patience"
    scores = [line["bpb"] for line in lines(folder, "validation")]
    assert min(scores[-3:]) >= min(scores[:-3]) == summary["best_validation_bpb"]
