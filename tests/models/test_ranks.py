"""Several processes make the training that one would make."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import killings
import pytest
from safetensors.torch import load_file
from trainings import StopAt, lines, run_folder, timeless, train, weights

from models import ranks, trainer

KNOBS: dict[str, Any] = {"log_every": 1, "max_epochs": 2, "context_loss": 0.5}
ROOT = Path(__file__).parents[2]


def train_together(folder: Path, size: int = 2, **how: Any) -> list[int | None]:
    """The ranks' exit statuses."""
    processes = killings.start_ranks(folder, size, **how)
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder, "step")]


@pytest.mark.parametrize(
    "changes", [{}, {"batch_tokens": 40}, {"context_loss": 0.0, "optimizer": "adamw"}], ids=str
)
@pytest.mark.parametrize("size", [2, 3])
def test_the_loss_curve_and_the_weights_are_those_of_one_process(
    data: Path, tmp_path: Path, size: int, changes: dict[str, Any]
) -> None:
    alone = run_folder(data, tmp_path / "alone", **{**KNOBS, **changes})
    assert train(alone)
    shared = run_folder(data, tmp_path / "shared", **{**KNOBS, **changes})
    assert train_together(shared, size, keeps_weights=True) == [0] * size
    assert len(losses(alone)) > 10
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)
    expected, made = (load_file(folder / "model" / "model.safetensors") for folder in (alone, shared))
    for name, weight in expected.items():
        assert (made[name] - weight).abs().max() < 1e-3, name
    assert len({(shared / f"weights-{rank}.safetensors").read_bytes() for rank in range(size)}) == 1
    assert json.loads((shared / "summary.json").read_text())["processes"] == size
    assert [line["step"] for line in lines(shared, "step")] == [line["step"] for line in lines(alone, "step")]


def test_with_dropout_the_ranks_draw_other_chances_and_stay_alike(data: Path, tmp_path: Path) -> None:
    shared = run_folder(data, tmp_path / "shared", network={"dropout": 0.3}, **KNOBS)
    assert train_together(shared, keeps_weights=True) == [0, 0]
    assert (shared / "weights-0.safetensors").read_bytes() == (shared / "weights-1.safetensors").read_bytes()


def test_a_rank_whose_memory_does_not_hold_its_part_makes_all_take_smaller_ones(
    data: Path, tmp_path: Path
) -> None:
    alone = run_folder(data, tmp_path / "alone", **KNOBS)
    assert train(alone)
    shared = run_folder(data, tmp_path / "shared", **KNOBS)
    assert train_together(shared, lacks_memory=True) == [0, 0]
    assert losses(shared) == pytest.approx(losses(alone), rel=1e-4)


def test_a_training_goes_on_with_another_number_of_processes(data: Path, tmp_path: Path) -> None:
    whole = run_folder(data, tmp_path / "whole", **KNOBS)
    assert train(whole)
    cut = run_folder(data, tmp_path / "cut", **KNOBS)
    assert not trainer.train(cut, StopAt(6))
    config = json.loads((cut / "config.json").read_text())
    config["train"]["processes"] = 2
    (cut / "config.json").write_text(json.dumps(config))
    assert train_together(cut) == [0, 0]
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-4)


def test_a_rank_that_is_killed_ends_the_others_and_the_next_ones_go_on_to_the_same_bytes(
    data: Path, tmp_path: Path
) -> None:
    knobs = {**KNOBS, "max_epochs": 12, "checkpoint_seconds": 1e-9}
    whole = run_folder(data, tmp_path / "whole", **knobs)
    assert train_together(whole) == [0, 0]
    cut = run_folder(data, tmp_path / "cut", **knobs)
    processes = killings.start_ranks(cut, 2)
    wait_for(cut / "checkpoints")
    processes[1].kill()
    processes[0].join(10)
    assert processes[0].exitcode not in (0, None)
    assert train_together(cut) == [0, 0]
    assert weights(cut) == weights(whole)
    assert timeless(cut) == timeless(whole)


def wait_for(path: Path) -> None:
    deadline_s = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline_s, path
        time.sleep(0.02)


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "models.trainer", str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def ranks_of(folder: Path) -> list[int]:
    found = subprocess.run(["pgrep", "-f", f"models.trainer {folder}$"], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


def wait_until_gone(folder: Path, seconds: float) -> None:
    deadline_s = time.monotonic() + seconds
    while left := ranks_of(folder):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.1)


@pytest.mark.timeout(180)
def test_one_command_starts_them_ends_them_and_goes_on(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", processes=2, **{**KNOBS, "max_epochs": 100_000})
    first = start(folder)
    wait_for(folder / "metrics.jsonl")
    while not losses(folder):
        time.sleep(0.05)
    first.terminate()
    _, said = first.communicate(timeout=20)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert not ranks_of(folder)
    (saved,) = (folder / "checkpoints").iterdir()

    second = start(folder)
    while int(sorted((folder / "checkpoints").iterdir())[-1].name) == int(saved.name):
        made = losses(folder)
        if len(made) > int(saved.name) + 5:
            break
        time.sleep(0.05)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    wait_until_gone(folder, 15)
    newest = max(int(path.name) for path in (folder / "checkpoints").iterdir())
    assert newest > int(saved.name)


def test_what_the_user_can_mend_is_the_last_line_and_the_status_is_2(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", processes=2, **KNOBS)
    config = json.loads((folder / "config.json").read_text())
    config["markup"] = {"unit": "conversation", "max_tokens": 8}
    (folder / "config.json").write_text(json.dumps(config))
    made = start(folder)
    _, said = made.communicate(timeout=60)
    assert made.returncode == 2, said
    assert said.splitlines()[-1].startswith("training: ") and "markup.max_tokens" in said.splitlines()[-1]


def test_by_itself_a_machine_without_a_gpu_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert ranks.wanted("auto") == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert ranks.wanted("auto") == 4
    assert ranks.wanted(2) == 2
