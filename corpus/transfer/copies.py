"""Copies: manages downloaded files, complete or partial, and the descriptions stored with them.

NAME          the complete file; NAME.json describes it
NAME.part     a download in progress; NAME.part.json describes it
NAME.lock     locked by the process that is writing the other files

A folder of copies, such as that of a data set, contains the files KEY-NAME, and a file that lists them.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2
from filelock import Timeout

from corpus.transfer.headers import identifying_headers, validator
from models.errors import InputError
from models.locks import lock
from models.record import Record

log = logging.getLogger(__name__)


@contextmanager
def write_lock(archive: Path, *, wait_s: float) -> Iterator[None]:
    """Hold a lock, so that no other process downloads to `archive` at the same time.

    Raises:
        InputError: another process still holds the lock after `wait_s` seconds.
        OSError: the file system does not support locks.
    """
    path = archive.with_name(archive.name + ".lock")
    file_lock = lock(path, timeout_s=0)
    try:
        file_lock.acquire()
    except Timeout:
        log.info("another process is downloading %s; waiting for it", archive.name)
        file_lock = lock(path, timeout_s=wait_s)
        try:
            file_lock.acquire()
        except Timeout:
            raise InputError(
                f"another process has been downloading {archive} for {wait_s:g} s: "
                "end that process, or wait until it ends"
            ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release, so that a waiting process creates a new lock file
        file_lock.release()


def part_path(archive: Path) -> Path:
    """The path of the partial file while `archive` is being downloaded."""
    return archive.with_name(archive.name + ".part")


def write_state(part: Path, url: str, response: httpx2.Response, total: int | None) -> None:
    """Write the description of a partial file whose bytes come from this response."""
    state = {
        "url_sha256": _digest(url),
        "validator": validator(response),
        "total": total,
        "headers": identifying_headers(response),
    }
    _state_path(part).write_text(json.dumps(state) + "\n")


def read_state(path: Path, *urls: str) -> dict[str, Any]:
    """The description of a file that was downloaded from one of `urls`; {} for any other file."""
    try:
        state = json.loads(_state_path(path).read_text())
        return state if state["url_sha256"] in map(_digest, urls) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def is_complete(archive: Path, urls: list[str]) -> bool:
    """Whether the complete file is on disk and came from one of `urls`."""
    return archive.is_file() and bool(read_state(archive, *urls))


def delete(part: Path) -> None:
    """Delete a partial file and its description."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def publish(archive: Path) -> None:
    """Replace the earlier copy with the completed download."""
    part = part_path(archive)
    _state_path(archive).unlink(missing_ok=True)  # first, because this description is of the old file
    part.replace(archive)
    _state_path(part).replace(_state_path(archive))


def name_by_key(key: str, path: str) -> str:
    """The name under which a folder of copies stores the file `path`, whose content has the key."""
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(path).name)[-80:]
    return f"{key[:40]}-{own}"


def keep_only(folder: Path, name: str, listing: Record, copied: set[str]) -> None:
    """Record in the file `name` that the copies in a folder are complete, and remove all other files."""
    partial = folder / f".{name}.{os.getpid()}"
    listing.write(partial)
    partial.replace(folder / name)
    for path in folder.iterdir():
        own_name = re.sub(r"(\.part)?(\.json)?$", "", path.name)
        if path.name != name and path.name not in copied and own_name not in copied:
            path.unlink(missing_ok=True)


def _state_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the address itself may hold a secret
