"""Locks: one training at a time in a home, and which of its runs are alive.

Both are locks of the kernel, which are free as soon as the process that holds them has ended in any way.
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
    """Another run is training; the message names it."""


def holder(home: Path) -> str | None:
    """The run that is training in this home, for people; None if there is none."""
    return _describe_holder(home) if is_held(home / "locks" / "training.lock") else None


@contextmanager
def my_turn(home: Path, name: str) -> Iterator[None]:
    """Inside, no other training runs in this home.

    Raises:
        Busy: another training runs.
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
    """The process that is training in this home, if it runs on this machine."""
    if holder(home) is None:
        return None
    with suppress(OSError, ValueError, KeyError):
        record = json.loads(_holder_file(home).read_text())
        return int(record["pid"]) if record["host"] == socket.gethostname() else None
    return None


_life_locks: dict[str, FileLock] = {}  # held by the runs of this process


def stay_alive(home: Path, flow_run_id: str | None) -> None:
    """From now on this run counts as alive, until `bury` is called or the process ends."""
    if flow_run_id is not None:
        _life_locks[flow_run_id] = lock(_life_file(home, flow_run_id))
        _life_locks[flow_run_id].acquire()


def dead_runs(home: Path) -> list[str]:
    """The runs of this home whose process ended before the end of the run was recorded."""
    files = sorted((home / "locks").glob("flow-*.lock"))
    return [file.stem.removeprefix("flow-") for file in files if not is_held(file)]


def bury(home: Path, flow_run_id: str) -> None:
    """Forget a run: its end is recorded, and what it left has been closed."""
    if held := _life_locks.pop(flow_run_id, None):
        held.release()
    _life_file(home, flow_run_id).unlink(missing_ok=True)


def _describe_holder(home: Path) -> str:
    try:
        record = json.loads(_holder_file(home).read_text())
        return f"{record['name']} (process {record['pid']} on {record['host']}, since {record['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"  # it has the lock, and has not written its name yet


def _lock(home: Path) -> Path:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "training.lock"


def _holder_file(home: Path) -> Path:
    return home / "locks" / "training.json"


def _life_file(home: Path, flow_run_id: str) -> Path:
    _lock(home)
    return home / "locks" / f"flow-{flow_run_id}.lock"
