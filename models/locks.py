"""Locks of the kernel: free as soon as their holder has ended, however it ended and wherever it ran."""

import fcntl
import os
from pathlib import Path

from filelock import FileLock

LOCK_TEST_SECONDS = 0.5
"""`is_held` takes a lock for a moment: wait this long before a lock counts as held by somebody else."""


def lock(path: Path, *, timeout_s: float = -1) -> FileLock:
    """A lock on this file, not yet acquired; a timeout of -1 waits forever.

    Acquiring it raises OSError where the file system has no locks. The library would fall back to a
    plain file there, which outlives a dead holder.
    """
    return FileLock(path, timeout=timeout_s, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file. Two tests at once share it and do not see each other."""
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
