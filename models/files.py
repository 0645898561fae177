"""Files: what is written is on the disk, and what is read is known by its digest."""

import hashlib
import os
import time
from pathlib import Path

SETTLED_S = 2.0
"""A file that was written to less long ago may change again with the time of its change the same."""

_known: dict[tuple[str, int, int, int, int, int], str] = {}


def sync(path: Path) -> None:
    """What is written of a file, or the names in a folder, are on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The digest of a file, which is read once in a process for as long as it stays the same.

    The same is: in the same place, with its size, inode and both times of its last change. One that
    was changed a moment ago is read again each time.
    """
    with path.open("rb") as file:
        now_s = time.time()
        there = os.fstat(file.fileno())
        state = (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)
        version = (str(path.absolute()), *state)
        if version not in _known:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if now_s - max(there.st_mtime, there.st_ctime) < SETTLED_S:
                return digest
            _known[version] = digest
    return _known[version]
