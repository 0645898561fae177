"""Runs trainers in separate processes, which a test can kill or use as the ranks of one training run.

Each process is forked from a process that has imported the trainer and little else: a fork of a process
that has computed with threads may wait forever for a thread that does not exist in the fork.
"""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from file_changes import watch
from safetensors.torch import save_file
from trainings import StopAt

from models.training import trainer
from models.training.loop import Training
from models.training.step import GradientStep

FOLDER = str(Path(__file__).parent)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["warmed"])


def start(folder: Path, **how: Any) -> ForkServerProcess:
    """Start a trainer that dies at file change number `dies_at`, or writes their number to `counts_into`."""
    return start_apart(_train, folder, **how)


def start_ranks(folders: list[Path], **how: Any) -> list[ForkServerProcess]:
    """Start one process per run folder, all of them ranks of one training run, as torchrun would."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(folders))}
    group |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        start(folder, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **how)
        for rank, folder in enumerate(folders)
    ]


def start_apart(work: Callable[..., None], *given: Any, **how: Any) -> ForkServerProcess:
    """Run the function `work` in a separate process."""
    process = _forks.Process(target=work, args=given, kwargs=how)
    with pytest.MonkeyPatch.context() as environment:
        # Python 3.11 sets the forked process's import path too late for its first imports.
        environment.setenv("PYTHONPATH", FOLDER)
        process.start()
    return process


def _train(
    folder: Path,
    dies_at: int | None = None,
    counts_into: Path | None = None,
    environment: dict[str, str] | None = None,
    lacks_memory: bool = False,
    keeps_weights: bool = False,
    stops_at: int | None = None,
) -> None:
    torch.set_num_threads(1)  # with more threads, the order of additions would vary
    os.environ.update(environment or {})
    rank = os.environ.get("RANK")
    if lacks_memory and rank == "1":
        _lack_memory_once()
    if keeps_weights:
        _keep_weights(folder / f"weights-{rank}.safetensors")
    changes = 0

    def see() -> None:
        nonlocal changes
        changes += 1
        if changes == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if dies_at or counts_into:
        watch(folder, see)
    stop = StopAt(stops_at) if stops_at is not None and rank == "1" else threading.Event()
    assert trainer.train(folder, stop) == (stops_at is None)
    if counts_into:
        counts_into.write_text(str(changes))


def _lack_memory_once() -> None:
    original, calls = GradientStep.differentiate, iter([1])

    def differentiate(self: GradientStep, *given: Any) -> torch.Tensor:
        if next(calls, None):
            raise torch.OutOfMemoryError
        return original(self, *given)

    GradientStep.differentiate = differentiate  # type: ignore[method-assign]


def _keep_weights(path: Path) -> None:
    """At the end of training, save the weights of this rank's network to `path`."""
    original = Training.fit

    def fit(self: Training) -> str | None:
        limit = original(self)
        save_file({name: p.detach().clone() for name, p in self.weights().items()}, path)
        return limit

    Training.fit = fit  # type: ignore[method-assign]
