"""Kernel locks, which are released as soon as the process that holds them ends, even if it is killed."""

import fcntl
import os
from pathlib import Path

from filelock import FileLock

LOCK_TEST_SECONDS = 0.5
"""Wait this long before a lock counts as held by another process, because `is_held` takes it for a moment."""


def lock(path: Path, *, timeout_s: float = -1) -> FileLock:
    """Return a lock on this file, not yet acquired. With a timeout of -1, acquiring it waits forever.

    Acquiring the lock raises OSError if the file system does not support locks. The library's default, a
    plain file as the lock, is disabled: such a file would remain after its holder has died.
    """
    return FileLock(path, timeout=timeout_s, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file. Concurrent calls do not see each other's lock."""
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
