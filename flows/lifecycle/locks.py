"""Turns: one training at a time in a home, and which of its runs are alive.

Both are locks of the kernel's: they are free as soon as their holder is gone, however it went.
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
    """Another run has its turn; the message names it."""


def holder(home: Path) -> str | None:
    """Who is at work in this home, for people; None: nobody."""
    return _told(home) if is_held(home / "locks" / "training.lock") else None


@contextmanager
def my_turn(home: Path, name: str) -> Iterator[None]:
    """Inside, no other training runs in this home.

    Raises:
        Busy: one does.
    """
    turn = lock(_lock(home), timeout_s=LOCK_TEST_SECONDS)
    try:
        turn.acquire()
    except Timeout:
        raise Busy(_told(home)) from None
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    told = {"name": name, "pid": os.getpid(), "host": socket.gethostname(), "since": now}
    _told_by(home).write_text(json.dumps(told) + "\n")
    try:
        yield
    finally:
        _told_by(home).unlink(missing_ok=True)
        turn.release()


def holder_pid(home: Path) -> int | None:
    """The process whose turn it is, where it is one of this machine."""
    if holder(home) is None:
        return None
    with suppress(OSError, ValueError, KeyError):
        told = json.loads(_told_by(home).read_text())
        return int(told["pid"]) if told["host"] == socket.gethostname() else None
    return None


_signs: dict[str, FileLock] = {}  # of the runs of this process


def stay_alive(home: Path, flow_run_id: str | None) -> None:
    """From here on this run counts as one that goes on, until `bury` or, without it, its process's end."""
    if flow_run_id is not None:
        _signs[flow_run_id] = lock(_sign(home, flow_run_id))
        _signs[flow_run_id].acquire()


def dead_runs(home: Path) -> list[str]:
    """The runs that began in this home and whose process is gone without an end."""
    signs = sorted((home / "locks").glob("flow-*.lock"))
    return [sign.stem.removeprefix("flow-") for sign in signs if not is_held(sign)]


def bury(home: Path, flow_run_id: str) -> None:
    """Forget a run: its end is recorded, and all that it left is in order."""
    if sign := _signs.pop(flow_run_id, None):
        sign.release()
    _sign(home, flow_run_id).unlink(missing_ok=True)


def _told(home: Path) -> str:
    try:
        told = json.loads(_told_by(home).read_text())
        return f"{told['name']} (process {told['pid']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, KeyError):
        return "another run"  # it has its turn since a moment, and has not said who it is


def _lock(home: Path) -> Path:
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "training.lock"


def _told_by(home: Path) -> Path:
    return home / "locks" / "training.json"


def _sign(home: Path, flow_run_id: str) -> Path:
    _lock(home)
    return home / "locks" / f"flow-{flow_run_id}.lock"
