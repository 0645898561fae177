"""File helpers: parse paths that the user typed, flush files to the disk, and cache file digests."""

import hashlib
import os
import shutil
import time
from pathlib import Path

from models.errors import InputError

PROJECT = Path(__file__).resolve().parent.parent
"""The project's root folder, from which its modules are imported."""

SETTLED_S = 2.0
"""If a file was modified less than this many seconds ago, it may change without getting a new mtime."""

_known: dict[tuple[str, int, int, int, int, int], str] = {}


def path_of(text: str) -> Path:
    """Return the path that the user typed, with `~` and `~NAME` expanded. The path need not exist.

    Raises:
        InputError: the path begins with `~NAME` and there is no such user, or the text cannot be a path.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
    except RuntimeError:
        name = Path(text).parts[0]
        raise InputError(f"{text[:80]}: this machine has no user {name[1:]!r}; give the full path") from None
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it contains a null character"
        raise InputError(f"{text[:80]!r} cannot be used as a path ({reason}); give another one") from None
    return path


def is_utf8(text: str) -> bool:
    """Whether a file name is valid UTF-8. Python decodes invalid bytes of a name as lone surrogates."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def put_folder(folder: Path, final: Path) -> None:
    """Sync `folder` to the disk and rename it to `final`, replacing any earlier folder of that name."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file. Each process reads an unchanged file only once.

    A file counts as unchanged if its path, device, inode, size, mtime and ctime are the same as before. A
    file that was modified less than SETTLED_S seconds ago is read each time.
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
