"""Copies: downloaded files, complete or partial, and what is known of them.

NAME          the complete file; NAME.json describes it
NAME.part     a download in progress; NAME.part.json describes it
NAME.lock     held by the one process that may write any of these
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from filelock import Timeout

from corpus.transfer.headers import headers_of_content, validator
from models.errors import InputError
from models.locks import lock

log = logging.getLogger(__name__)


@contextmanager
def only_writer(archive: Path, *, wait_s: float) -> Iterator[None]:
    """While it is entered, no other process downloads to `archive`.

    Raises:
        InputError: another process still does after `wait_s` seconds.
    """
    path = archive.with_name(archive.name + ".lock")
    held = lock(path, timeout_s=0)
    try:
        held.acquire()
    except Timeout:
        log.info("another process is downloading %s; waiting for it", archive.name)
        held = lock(path, timeout_s=wait_s)
        try:
            held.acquire()
        except Timeout:
            raise InputError(
                f"another process has been downloading {archive} for {wait_s:g} s: end it, or wait for it"
            ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: a process that waits makes a new one
        held.release()


def part_of(archive: Path) -> Path:
    return archive.with_name(archive.name + ".part")


def write_state(part: Path, url: str, response: httpx2.Response, total: int | None) -> None:
    state = {
        "url_sha256": _digest(url),
        "validator": validator(response),
        "total": total,
        "headers": headers_of_content(response),
    }
    _state(part).write_text(json.dumps(state) + "\n")


def read_state(path: Path, *urls: str) -> dict[str, Any]:
    """What is known of a file that came from one of `urls`; {} for another file."""
    try:
        state = json.loads(_state(path).read_text())
        return state if state["url_sha256"] in map(_digest, urls) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def is_whole(archive: Path, urls: list[str]) -> bool:
    """Whether the complete file is on the disk and came from one of `urls`."""
    return archive.is_file() and bool(read_state(archive, *urls))


def drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def publish(archive: Path) -> None:
    """Replace the earlier copy by the download, which is complete."""
    part = part_of(archive)
    _state(archive).unlink(missing_ok=True)  # first, so that it never describes another file
    part.replace(archive)
    _state(part).replace(_state(archive))


def _state(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the address itself may hold a secret
