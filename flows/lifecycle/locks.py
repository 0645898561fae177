"""Locks: they allow one training run at a time in a home, and show which of its runs are alive.

All of them are kernel locks, which are released as soon as the process that holds them ends, for any reason.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from models.locks import LOCK_TEST_SECONDS, is_held, lock


class Busy(Exception):
    """Another run is training in this home; the message names that run."""


def holder(home: Path) -> str | None:
    """A description of the run that is training in this home; None if no run is training."""
    return _describe_holder(home) if is_held(home / "locks" / "training.lock") else None


@contextmanager
def my_turn(home: Path, name: str) -> Iterator[None]:
    """Hold the training lock of this home, so that no other run trains in it at the same time.

    Raises:
        Busy: another run is training in this home.
    """
    turn = lock(_lock(home), timeout_s=LOCK_TEST_SECONDS)
    try:
        turn.acquire()
    except Timeout:
        raise Busy(_describe_holder(home)) from None
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"name": name, "pid": os.getpid(), "host": socket.gethostname(), "since": now}
    _holder_file(home).write_text(json.dumps(record) + "\n")
    try:
        yield
    finally:
        _holder_file(home).unlink(missing_ok=True)
        turn.release()


def holder_pid(home: Path) -> int | None:
    """The ID of the process that is training in this home; None if no process on this machine is."""
    if holder(home) is None:
        return None
    with suppress(OSError, ValueError, KeyError):
        record = json.loads(_holder_file(home).read_text())
        return int(record["pid"]) if record["host"] == socket.gethostname() else None
    return None


_life_locks: dict[str, FileLock] = {}  # held by the runs of this process


def stay_alive(home: Path, flow_run_id: str | None) -> None:
    """Mark this run as alive until `bury` is called or the process ends."""
    if flow_run_id is not None:
        _life_locks[flow_run_id] = lock(_life_file(home, flow_run_id))
        _life_locks[flow_run_id].acquire()


def dead_runs(home: Path) -> list[str]:
    """The runs of this home that died: their process ended before the end of the run was recorded."""
    files = sorted((home / "locks").glob("flow-*.lock"))
    return [file.stem.removeprefix("flow-") for file in files if not is_held(file)]


def bury(home: Path, flow_run_id: str) -> None:
    """Release and remove the lock of a run whose end has been recorded and whose open entries are closed."""
    if held := _life_locks.pop(flow_run_id, None):
        held.release()
    _life_file(home, flow_run_id).unlink(missing_ok=True)


def _describe_holder(home: Path) -> str:
    try:
        record = json.loads(_holder_file(home).read_text())
        return f"{record['name']} (process {record['pid']} on {record['host']}, since {record['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"  # the run has the lock, but has not written its name yet


def _lock(home: Path) -> Path:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "training.lock"


def _holder_file(home: Path) -> Path:
    return home / "locks" / "training.json"


def _life_file(home: Path, flow_run_id: str) -> Path:
    _lock(home)
    return home / "locks" / f"flow-{flow_run_id}.lock"
