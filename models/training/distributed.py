"""Data-parallel training: the process group, and the launcher of its processes on one machine.

Each process computes its part of every batch, and reads its rank from the environment variables that
torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK). If all processes are on one machine, `launch` starts them. The
main process, rank 0, makes all decisions.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig
from torch import Tensor

from models.errors import InputError

COLLECTIVE_TIMEOUT = timedelta(
    hours=2
)  # the other ranks wait while rank 0 scores, which may take long; they notice at once if a process ends
SHUTDOWN_SECONDS = 15  # from SIGTERM to SIGKILL; writing a checkpoint takes less time


class ProcessGroup:
    """The group of training processes and this process's rank; a group of one does not communicate."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.is_main = rank == 0

    def all_gather(self, *values: float) -> list[list[float]]:
        """The values of all processes, ordered by rank; the call does not wait for the device.

        Raises:
            ConnectionError: another process has ended.
        """
        if self.world_size == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64)
        gathered = [torch.empty_like(own) for _ in range(self.world_size)]
        with _peer_failure_as_connection_error():
            dist.all_gather(gathered, own)
        return [each.tolist() for each in gathered]

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of the tensors over all processes, in float32, sent as one message.

        Raises:
            ConnectionError: another process has ended.
        """
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        with _peer_failure_as_connection_error():
            dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """A context that the main process enters first; the other processes wait until it has left it."""
        if not self.is_main:
            self.all_gather()
        yield
        if self.is_main:
            self.all_gather()


@contextmanager
def _peer_failure_as_connection_error() -> Iterator[None]:
    """Convert torch's RuntimeError to ConnectionError, which here means that another process has ended."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConnectionError("another process of this training run has ended") from error


def init_process_group() -> ProcessGroup:
    """The process group in which this process was started, or a group of this process alone."""
    world_size = int(os.environ["WORLD_SIZE"]) if is_member() else 1
    if world_size == 1:
        return ProcessGroup()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if not dist.is_initialized():
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    return ProcessGroup(dist.get_rank(), world_size)


def is_member() -> bool:
    """Whether this process was started as a member of a process group."""
    return "RANK" in os.environ


def stop_with_launcher(stop: threading.Event) -> None:
    """Set `stop` once the launcher has ended, and exit soon after if training does not stop by itself.

    Training cannot stop by itself while it waits for a process that has ended, or for the launcher's port.
    """
    launcher = os.getppid()
    while os.getppid() == launcher and not stop.wait(1):
        pass
    stop.set()
    time.sleep(SHUTDOWN_SECONDS)
    os._exit(128 + signal.SIGTERM)


def num_processes(processes: int | Literal["auto"]) -> int:
    """The number of processes for `train.processes`: `auto` means one per GPU of this machine, at least 1.

    Raises:
        InputError: this machine has GPUs, but fewer than `processes`.
    """
    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < processes:
        raise InputError(
            f"train.processes is {processes}, but the number of visible GPUs is {gpus}; give {gpus} or auto"
        )
    return processes


def launch(processes: int, cores: int, stop: threading.Event, *arguments: str) -> int:
    """Run `python ARGUMENTS --until-stdin-closes` in a group of local processes; setting `stop` ends them.

    Returns the exit status of the first process that failed, or 0 if none failed.

    Raises:
        ChildProcessError: a signal has ended one of the processes.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // processes))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback())
    _open_lifeline(stop)
    with tempfile.TemporaryDirectory(prefix="ranks-") as logs:
        config = _launch_config(processes, logs)
        logging.disable(logging.CRITICAL)  # torch's report would hide the failed process's message
        try:
            elastic_launch(config, sys.executable)(*arguments, "--until-stdin-closes")
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            said = [path.read_text(errors="replace") for path in Path(logs).rglob(f"{rank}/stderr.log")]
            sys.stderr.write("".join(said))
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                raise ChildProcessError(f"process {rank} of {processes} was ended by {name}") from None
            return failure.exitcode
        except SignalException as error:
            return 128 + int(error.sigval)
        finally:
            logging.disable(logging.NOTSET)
    return 0


def _launch_config(processes: int, logs: str) -> "LaunchConfig":
    """A launch configuration with one node (this machine) and no restarts.

    Ranks above 0 log to the folder `logs`.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="training",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        # Rank 0 logs for the whole group. Another rank's output is shown only if that rank fails first.
        logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, processes), Std.ERR)),
        shutdown_timeout=SHUTDOWN_SECONDS,
        # Not SIGTERM and SIGINT, which set `stop`: torch's handlers would lose the processes' exit statuses.
        signals_to_handle="SIGQUIT",
    )


def loopback() -> str:
    """The loopback network interface: Linux calls it lo, macOS and the BSDs call it lo0."""
    names = [name for _, name in socket.if_nameindex()]
    return "lo0" if "lo0" in names and "lo" not in names else "lo"


def _open_lifeline(stop: threading.Event) -> None:
    """Replace this process's standard input with a pipe that closes when `stop` is set or the process dies.

    The child processes inherit the pipe, so they notice when the launcher ends, whatever the cause.
    """
    ranks_end, own_end = os.pipe()
    os.dup2(ranks_end, 0)
    os.close(ranks_end)

    def close() -> None:
        stop.wait()
        os.close(own_end)

    threading.Thread(target=close, daemon=True).start()
