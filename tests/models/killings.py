"""Trainings in processes of their own, to be killed: what the kill sweep starts.

They are forks of a process that has imported the trainer and little else: a fork of one that has
computed with threads may wait for a thread that it does not have.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from models import trainer

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}

HERE = str(Path(__file__).parent)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["warmed"])


def start(folder: Path, **how: Any) -> ForkServerProcess:
    """A training in the folder: `dies_at` which of its changes, `counts_into` which file."""
    process = _forks.Process(target=_train, args=(folder,), kwargs=how)
    with pytest.MonkeyPatch.context() as environment:
        # Python 3.11 tells that process where to import from only after it has tried to.
        environment.setenv("PYTHONPATH", HERE)
        process.start()
    return process


def _train(folder: Path, dies_at: int | None = None, counts_into: Path | None = None) -> None:
    torch.set_num_threads(1)  # more of them would add in another order
    changes = 0

    def see() -> None:
        nonlocal changes
        changes += 1
        if changes == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if dies_at or counts_into:
        _watch(folder, see)
    assert trainer.train(folder, threading.Event())
    if counts_into:
        counts_into.write_text(str(changes))


def _watch(folder: Path, see: Callable[[], None]) -> None:
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
