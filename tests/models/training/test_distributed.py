"""Training with several processes gives the same result as training with one process."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import killings
import pytest
import torch
from safetensors.torch import load_file
from trainings import StopAt, lines, run_folder, timeless, train, weights

from models.errors import InputError
from models.training import distributed, trainer

KNOBS: dict[str, Any] = {"log_every": 1, "max_epochs": 2, "context_loss": 0.5}
ROOT = Path(__file__).parents[3]


def train_together(folder: Path, size: int = 2, **how: Any) -> list[int | None]:
    """Train with one process per rank; returns the exit statuses by rank."""
    processes = killings.start_ranks([folder] * size, **how)
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
    expected, actual = (load_file(folder / "model" / "model.safetensors") for folder in (alone, shared))
    for name, weight in expected.items():
        assert (actual[name] - weight).abs().max() < 1e-3, name
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


@pytest.mark.parametrize("first", [1, 2])
def test_a_training_goes_on_with_another_number_of_processes(data: Path, tmp_path: Path, first: int) -> None:
    """Both processes stop at the step at which one of them is asked to stop."""
    whole = run_folder(data, tmp_path / "whole", **KNOBS)
    assert train(whole)
    cut = run_folder(data, tmp_path / "cut", **KNOBS)
    if first == 1:
        assert not trainer.train(cut, StopAt(6))
    else:
        assert train_together(cut, stops_at=6) == [0, 0]
    assert saved(cut) == 6
    config = json.loads((cut / "config.json").read_text())
    config["train"]["processes"] = 3 - first
    (cut / "config.json").write_text(json.dumps(config))
    assert train(cut) if first == 2 else train_together(cut) == [0, 0]
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-4)


def test_a_rank_that_is_killed_ends_the_others_and_the_next_ones_go_on_to_the_same_bytes(
    data: Path, tmp_path: Path
) -> None:
    knobs = {**KNOBS, "max_epochs": 12, "checkpoint_seconds": 1e-9}
    whole = run_folder(data, tmp_path / "whole", **knobs)
    assert train_together(whole) == [0, 0]
    cut = run_folder(data, tmp_path / "cut", **knobs)
    processes = killings.start_ranks([cut, cut])
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
        [sys.executable, "-m", "models.training.trainer", str(folder)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks_of(folder: Path) -> dict[int, int]:
    """The process id of each rank that is running."""
    wanted = f"models.training.trainer {folder} --until-stdin-closes$"
    found = subprocess.run(["pgrep", "-f", wanted], capture_output=True, text=True)
    found_ranks = {}
    for number in found.stdout.split():
        with contextlib.suppress(OSError, AttributeError):  # if the process has ended in the meantime
            match = re.search(r"\0RANK=(\d+)", Path(f"/proc/{number}/environ").read_text())
            found_ranks[int(match[1])] = int(number)  # type: ignore[index]
    return found_ranks


def wait_for_steps(folder: Path, process: subprocess.Popen[str], more_than: int) -> None:
    deadline_s = time.monotonic() + 60
    while not (folder / "metrics.jsonl").exists() or len(losses(folder)) <= more_than:
        assert process.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.05)


def saved(folder: Path) -> int:
    return max(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*"))


@pytest.mark.soak
def test_one_command_starts_them_ends_them_and_goes_on(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", processes=2, **{**KNOBS, "max_epochs": 100_000})
    stopped = start(folder)
    wait_for_steps(folder, stopped, 0)
    stopped.terminate()
    _, said = stopped.communicate(timeout=20)
    assert (stopped.returncode, said) == (128 + signal.SIGTERM, "")
    assert not ranks_of(folder)
    step = saved(folder)
    assert step > 0

    robbed = start(folder)
    wait_for_steps(folder, robbed, step)
    os.kill(ranks_of(folder)[1], signal.SIGKILL)
    _, said = robbed.communicate(timeout=20)
    assert robbed.returncode == 3, said
    goes_on, last = said.splitlines()
    assert goes_on == f"resuming at step {step}"
    assert last.startswith("training: process 1 of 2 was ended by SIGKILL; earlier checkpoints are kept")
    assert not ranks_of(folder)

    orphaned = start(folder)
    # Until the resumed run logs this line, metrics.jsonl contains the killed run's lines about later steps.
    assert orphaned.stderr and orphaned.stderr.readline() == goes_on + "\n"
    wait_for_steps(folder, orphaned, step + 5)
    orphaned.kill()
    orphaned.communicate()
    deadline_s = time.monotonic() + 20
    while left := ranks_of(folder):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.1)
    assert saved(folder) > step


def be_a_launcher(record: Path) -> None:
    distributed._open_lifeline(threading.Event())
    subprocess.run(["sh", "-c", f"echo > {record}-begun; cat; echo > {record}"])


def test_a_launcher_that_is_killed_before_its_ranks_can_know_it_still_closes_their_input(
    tmp_path: Path,
) -> None:
    launcher = killings.start_apart(be_a_launcher, tmp_path / "told")
    wait_for(tmp_path / "told-begun")
    time.sleep(0.2)
    assert not (tmp_path / "told").exists()
    launcher.kill()
    wait_for(tmp_path / "told")


def wait_for_a_lost_one() -> None:
    distributed.SHUTDOWN_SECONDS = 0  # type: ignore[assignment]
    stop = threading.Event()
    stop.set()
    threading.Thread(target=distributed.stop_with_launcher, args=(stop,), daemon=True).start()
    time.sleep(60)


def test_a_process_that_waits_for_a_lost_one_ends_when_it_is_asked_to_stop() -> None:
    rank = killings.start_apart(wait_for_a_lost_one)
    rank.join(20)
    assert rank.exitcode == 128 + signal.SIGTERM


def test_ranks_that_do_not_share_their_checkpoints_do_not_begin(data: Path, tmp_path: Path) -> None:
    own_folder, there = (run_folder(data, tmp_path / name, **KNOBS) for name in ("here", "there"))
    assert not trainer.train(own_folder, StopAt(3))
    logged = timeless(own_folder)
    processes = killings.start_ranks([own_folder, there])
    for process in processes:
        process.join(20)
        process.kill()
    assert [process.exitcode for process in processes] == [1, 1]
    assert timeless(own_folder) == logged


def test_what_the_user_can_mend_is_the_last_line_and_the_status_is_2(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", processes=2, **KNOBS)
    config = json.loads((folder / "config.json").read_text())
    config["markup"] = {"unit": "conversation", "max_tokens": 8}
    (folder / "config.json").write_text(json.dumps(config))
    process = start(folder)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.splitlines()[-1].startswith("training: ") and "markup.max_tokens" in said.splitlines()[-1]


def test_running_out_of_memory_in_a_collective_is_not_reported_as_a_lost_process() -> None:
    for raised, logged in ((torch.OutOfMemoryError, torch.OutOfMemoryError), (RuntimeError, ConnectionError)):
        with pytest.raises(logged), distributed._peer_failure_as_connection_error():
            raise raised


def test_by_itself_a_machine_without_a_gpu_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert distributed.num_processes("auto") == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert distributed.num_processes("auto") == 4
    assert distributed.num_processes(2) == 2
    with pytest.raises(
        InputError, match=r"train\.processes is 8, but the number of visible GPUs is 4; give 4"
    ):
        distributed.num_processes(8)


@pytest.mark.parametrize(("names", "own"), [(["lo", "eth0"], "lo"), (["en0", "lo0"], "lo0"), ([], "lo")])
def test_the_ranks_meet_at_the_machines_own_interface_whatever_its_name(
    names: list[str], own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))
    assert distributed.loopback() == own
