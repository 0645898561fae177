"""Files: the path that a person typed; what is written is on the disk; a digest is known once."""

import hashlib
import os
import time
from pathlib import Path

from models.errors import InputError

PROJECT = Path(__file__).resolve().parent.parent
"""The folder of the project: its modules are found from there."""

SETTLED_S = 2.0
"""A file that was written to less long ago may change again with the time of its change the same."""

_known: dict[tuple[str, int, int, int, int, int], str] = {}


def path_of(text: str) -> Path:
    """The path that a person typed, with `~` and `~NAME` resolved; there may be nothing at it.

    Raises:
        InputError: it names a user that this machine does not have, or no file can have such a path.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
    except RuntimeError:
        name = Path(text).parts[0]
        raise InputError(f"{text[:80]}: this machine has no user {name[1:]!r}; give the whole path") from None
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds a null character"
        raise InputError(f"{text[:80]!r} cannot be used as a path ({reason}); give another one") from None
    return path


def is_utf8(text: str) -> bool:
    """Whether a name can be recorded: Python reads a byte that is no UTF-8 as half of a surrogate pair."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


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
