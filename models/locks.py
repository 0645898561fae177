"""Kernel locks, which are released as soon as the process that holds them ends, even if it is killed."""

import fcntl
import os
from pathlib import Path

from filelock import FileLock

LOCK_TEST_SECONDS = 0.5
"""How long to wait for a lock before it counts as held, because `is_held` acquires it for a moment."""


def lock(path: Path, *, timeout_s: float = -1) -> FileLock:
    """Return a lock on this file, not yet acquired. With a timeout of -1, `acquire` waits without limit.

    Acquiring the lock raises OSError if the file system does not support locks. By default,
    filelock would then use a plain file as the lock, which would remain if its holder died.
    """
    return FileLock(path, timeout=timeout_s, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file. A concurrent call of `is_held` does not count."""
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
