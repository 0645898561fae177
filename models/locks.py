"""Kernel file locks: a lock is released as soon as the process that holds it ends or is killed."""

import fcntl
import os
from pathlib import Path

from filelock import FileLock

LOCK_TEST_SECONDS = 0.5
"""How long to wait before a lock counts as held: another call of `is_held` may hold it for a moment."""


def lock(path: Path, *, timeout_s: float = -1) -> FileLock:
    """Return a lock on this file without acquiring it. If `timeout_s` is -1, `acquire` waits without limit.

    If the file system does not support locks, `acquire` raises OSError. By default, filelock would instead
    treat the existence of a file as the lock, and that file would remain if its holder died.
    """
    return FileLock(path, timeout=timeout_s, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file. A concurrent call of this function does not count."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
