"""Ranks: the processes that make one training together, each with its part of every batch.

They are told who they are as torchrun tells it (RANK, WORLD_SIZE, LOCAL_RANK); on one machine
`launch` starts them. Whatever one process alone would decide, rank 0 decides for all.
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
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from models.errors import InputError

COLLECTIVE_TIMEOUT = timedelta(hours=2)  # rank 0 may score for long; a rank that has died is noticed at once
SHUTDOWN_SECONDS = 15  # that a rank has to stop: a checkpoint is written within


class ProcessGroup:
    """This process among the others; alone, nothing is sent."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size
        self.is_main = rank == 0

    def all_gather(self, *values: float) -> list[list[float]]:
        """What each rank has given, by rank; the device is not waited for."""
        if self.world_size == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64)
        gathered = [torch.empty_like(own) for _ in range(self.world_size)]
        with _peer_failure_as_connection_error():
            dist.all_gather(gathered, own)
        return [each.tolist() for each in gathered]

    def all_reduce_sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Their sums over all ranks, in float32, sent as one message."""
        flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors])
        with _peer_failure_as_connection_error():
            dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Rank 0 does what is inside before the others."""
        if not self.is_main:
            self.all_gather()
        yield
        if self.is_main:
            self.all_gather()


@contextmanager
def _peer_failure_as_connection_error() -> Iterator[None]:
    """Inside, what torch raises is that one of them is gone: its own report does not say so."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConnectionError("another process of this training has ended") from error


def init_process_group() -> ProcessGroup:
    """The ranks that this process was started as one of, or itself alone."""
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
    """Whether this process was started as one of several."""
    return "RANK" in os.environ


def stop_with_launcher(stop: threading.Event) -> None:
    """Ask for a stop once the process that started this rank is gone; end where that is of no avail.

    A rank may be waiting for one that has ended, or for the launcher's port, and see no wish.
    """
    launcher = os.getppid()
    while os.getppid() == launcher and not stop.wait(1):
        pass
    stop.set()
    time.sleep(SHUTDOWN_SECONDS)
    os._exit(128 + signal.SIGTERM)


def num_processes(processes: int | Literal["auto"]) -> int:
    """How many processes: `auto` is one for each GPU of this machine, else one.

    Raises:
        InputError: there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if processes == "auto":
        return max(1, gpus)
    if 0 < gpus < processes:
        raise InputError(f"train.processes is {processes}, GPUs to be seen here: {gpus}; give {gpus} or auto")
    return processes


def launch(processes: int, cores: int, stop: threading.Event, *arguments: str) -> int:
    """Run `python ARGUMENTS --until-stdin-closes` as so many ranks on this machine, until `stop`.

    Returns the exit status of the first that failed, or 0.

    Raises:
        ChildProcessError: a signal has ended one.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // processes))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback())
    _open_lifeline(stop)
    with tempfile.TemporaryDirectory(prefix="ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="training",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            # Rank 0 speaks for all; what another says is looked at if it fails first.
            logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, processes), Std.ERR)),
            shutdown_timeout=SHUTDOWN_SECONDS,
            # SIGTERM and SIGINT come to `stop`: torch would forget how the ranks have ended.
            signals_to_handle="SIGQUIT",
        )
        logging.disable(logging.CRITICAL)  # the launcher's own report would hide the reason
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


def loopback() -> str:
    """The network interface of this machine to itself: Linux calls it lo, macOS and the BSDs lo0."""
    names = [name for _, name in socket.if_nameindex()]
    return "lo0" if "lo0" in names and "lo" not in names else "lo"


def _open_lifeline(stop: threading.Event) -> None:
    """Make this process's standard input a pipe that closes at `stop`, or when the process dies.

    The ranks inherit it: whichever way the launcher goes, and however early, they know.
    """
    ranks_end, own_end = os.pipe()
    os.dup2(ranks_end, 0)
    os.close(ranks_end)

    def close() -> None:
        stop.wait()
        os.close(own_end)

    threading.Thread(target=close, daemon=True).start()
