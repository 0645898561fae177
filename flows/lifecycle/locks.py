"""Locks: at most one run at a time trains in a home, and each model line has at most one run in progress.

Further locks show which runs are alive. All these locks are kernel locks, which are released as soon as the
process that holds them ends, for any reason.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from models.locks import LOCK_TEST_SECONDS, is_held, lock
from models.model_name import file_name_of

log = logging.getLogger(__name__)

TRAINING = "training"  # the name of the lock that is held by the run that trains in a home
REMINDER_SECONDS = 600  # how often a waiting run logs what it is waiting for


class Busy(Exception):
    """Another run holds the lock; the message names that run."""


def holder(home: Path) -> str | None:
    """A description of the run that is training in this home; None if no run is training."""
    return _describe_holder(home, TRAINING) if _is_held(home, TRAINING) else None


def line_holder(home: Path, line: str) -> str | None:
    """A description of the run of this model line that is in progress in this home; None if there is none."""
    name = _line_lock(line)
    return _describe_holder(home, name) if _is_held(home, name) else None


@contextmanager
def my_turn(home: Path, name: str, *, waits: bool = False) -> Iterator[None]:
    """Hold the training lock of this home, so that no other run trains in it in the meantime.

    Raises:
        Busy: a run is training in this home, and this call does not wait for its end.
    """
    with _held(home, TRAINING, name, waits=waits):
        yield


@contextmanager
def turn_of_line(home: Path, line: str, name: str) -> Iterator[None]:
    """Hold the lock of a model line and, as soon as no other line is training, the training lock.

    Raises:
        Busy: another run of this line is in progress in this home.
    """
    with _held(home, _line_lock(line), name), _held(home, TRAINING, name, waits=True):
        yield


def run_processes(home: Path) -> list[int]:
    """The process IDs of this home's runs on this machine: first waiting runs, then the training run."""
    lines = [path.stem for path in (home / "locks").glob("line-*.lock")]
    training = holder_pid(home)
    waiting = {_holder_pid(home, name) for name in lines} - {training, None}
    return [pid for pid in (*waiting, training) if pid is not None]


def holder_pid(home: Path) -> int | None:
    """The ID of the process that is training in this home; None if no process of this machine is training."""
    return _holder_pid(home, TRAINING)


_life_locks: dict[str, FileLock] = {}  # held by the runs of this process


def stay_alive(home: Path, flow_run_id: str | None) -> None:
    """Mark this run as alive until `bury` is called or the process ends."""
    if flow_run_id is not None and flow_run_id not in _life_locks:
        _life_locks[flow_run_id] = lock(_life_file(home, flow_run_id))
        _life_locks[flow_run_id].acquire()


def dead_runs(home: Path) -> list[str]:
    """The IDs of the runs of this home whose process ended before the end of the run was recorded."""
    files = sorted((home / "locks").glob("flow-*.lock"))
    return [file.stem.removeprefix("flow-") for file in files if not is_held(file)]


def bury(home: Path, flow_run_id: str) -> None:
    """Release and remove the lock of a run whose end Prefect has recorded, or that Prefect does not know."""
    if held := _life_locks.pop(flow_run_id, None):
        held.release()
    _life_file(home, flow_run_id).unlink(missing_ok=True)


@contextmanager
def _held(home: Path, lock_name: str, run_name: str, *, waits: bool = False) -> Iterator[None]:
    """Hold a lock, with a record of its holder in a file beside it.

    Raises:
        Busy: another run holds the lock, and this run does not wait.
    """
    held = _acquire(home, lock_name, waits=waits)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    record = {"name": run_name, "pid": os.getpid(), "host": socket.gethostname(), "since": now}
    _record_file(home, lock_name).write_text(json.dumps(record) + "\n")
    try:
        yield
    finally:
        _record_file(home, lock_name).unlink(missing_ok=True)
        held.release()


def _acquire(home: Path, lock_name: str, *, waits: bool) -> FileLock:
    held, timeout_s = lock(_lock_file(home, lock_name)), LOCK_TEST_SECONDS
    while True:
        try:
            held.acquire(timeout=timeout_s, poll_interval=0.1)
            return held
        except Timeout:
            run = _describe_holder(home, lock_name)
            if not waits:
                raise Busy(run) from None
            log.info("waiting for another run to finish training: %s", run)
            timeout_s = REMINDER_SECONDS


def _is_held(home: Path, lock_name: str) -> bool:
    return is_held(home / "locks" / f"{lock_name}.lock")


def _holder_pid(home: Path, lock_name: str) -> int | None:
    if not _is_held(home, lock_name):
        return None
    with suppress(OSError, ValueError, KeyError):
        record = _read_record(home, lock_name)
        return int(record["pid"]) if record["host"] == socket.gethostname() else None
    return None


def _describe_holder(home: Path, lock_name: str) -> str:
    try:
        record = _read_record(home, lock_name)
        return f"{record['name']} (process {record['pid']} on {record['host']}, since {record['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"  # the run has the lock, but has not written its name yet


def _read_record(home: Path, lock_name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(_record_file(home, lock_name).read_text())
    return record


def _line_lock(line: str) -> str:
    """The name of a line's lock."""
    return f"line-{file_name_of(line)}"


def _lock_file(home: Path, lock_name: str) -> Path:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{lock_name}.lock"


def _record_file(home: Path, lock_name: str) -> Path:
    return home / "locks" / f"{lock_name}.json"


def _life_file(home: Path, flow_run_id: str) -> Path:
    return _lock_file(home, f"flow-{flow_run_id}")
