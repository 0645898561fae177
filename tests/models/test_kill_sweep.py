"""Killed at every change that a training makes to its folder, it goes on to the same bytes."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainings import run_folder, timeless, train, weights

from models import trainer

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
KNOBS = {"max_steps": 3, "checkpoint_seconds": 1e-9, "log_every": 1, "validations": 1}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # before any training of this file: more of them add in another order


def in_child(work: Callable[[], None], killed_after_s: float | None = None) -> int:
    """The wait status of a fork that does the work, and is killed when its time is over."""
    child = os.fork()
    if child:
        if killed_after_s is not None:
            time.sleep(killed_after_s)
            os.kill(child, signal.SIGKILL)  # it is not waited for yet, so the number is its own
        return os.waitpid(child, 0)[1]
    try:
        torch.set_num_threads(1)  # after a fork torch's pool is made anew, by two threads at once if they can
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()  # or nobody would ever know why
    finally:
        os._exit(1)


def watch(folder: Path, see: Callable[[], None]) -> None:
    """From here on `see` is called before each change below the folder, and before each fsync."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[1], str) and args[1][:1] in "wax"
        if (event in CHANGES or writes) and str(args[0]).startswith(str(folder)):
            see()

    plain = os.fsync

    def fsync(handle: int) -> None:
        see()
        plain(handle)

    os.fsync = fsync
    sys.addaudithook(hook)


def count(folder: Path, into: Path) -> int:
    """How many changes a whole training makes."""
    seen = 0

    def one_more() -> None:
        nonlocal seen
        seen += 1

    def work() -> None:
        watch(folder, one_more)
        train(folder)
        os.write(os.open(into, os.O_CREAT | os.O_WRONLY), str(seen).encode())

    assert in_child(work) == 0
    return int(into.read_text())


def killed_at(folder: Path, number: int) -> int:
    left = number

    def die() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        watch(folder, die)
        trainer.train(folder, threading.Event())

    return in_child(work)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    folder = run_folder(data, tmp_path_factory.mktemp("whole") / "run", **KNOBS)
    yield folder, count(folder, folder.parent / "count")


@pytest.mark.timeout(600)
def test_killed_before_any_change_to_its_folder_it_goes_on_to_the_same_bytes(
    data: Path, tmp_path: Path, whole: tuple[Path, int]
) -> None:
    expected, changes = whole
    assert changes > 60
    for number in range(1, changes + 1):
        folder = run_folder(data, tmp_path / str(number), **KNOBS)
        assert os.WTERMSIG(killed_at(folder, number)) == signal.SIGKILL, number
        assert train(folder), number
        assert weights(folder) == weights(expected), number
        assert timeless(folder) == timeless(expected), number
        assert not list(folder.rglob(".tmp-*")), number


@pytest.mark.timeout(600)
def test_killed_at_25_random_instants_it_goes_on_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    chances = np.random.default_rng(seed)
    knobs: dict[str, Any] = {"network": {"dropout": 0.2}, "max_epochs": 3, "checkpoint_seconds": 1e-9}
    expected = run_folder(data, tmp_path / "whole", **knobs)
    began_s = time.monotonic()
    assert in_child(lambda: assert_done(expected)) == 0
    whole_s = time.monotonic() - began_s
    killed = 0
    for number in range(25):
        folder = run_folder(data, tmp_path / str(number), **knobs)
        after_s = float(chances.uniform(0, whole_s))
        status = in_child(lambda folder=folder: assert_done(folder), after_s)
        killed += os.WIFSIGNALED(status)
        assert train(folder), (seed, number)
        assert weights(folder) == weights(expected), (seed, number)
        assert timeless(folder) == timeless(expected), (seed, number)
    assert killed > 10, (seed, killed)  # the others were done before


def assert_done(folder: Path) -> None:
    assert train(folder)
