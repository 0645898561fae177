"""Copies: what is here of a file of the network, whole or in part, and what is known of it.

NAME          the whole file, as it came with NAME.json
NAME.part     a download in progress, with NAME.part.json
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
    """Inside, no other process downloads to `archive`.

    Raises:
        InputError: another one still does after so long.
    """
    path = archive.with_name(archive.name + ".lock")
    held = lock(path, timeout_s=0)
    try:
        held.acquire()
    except Timeout:
        log.info("another process downloads %s now; waits for it", archive.name)
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
        path.unlink(missing_ok=True)  # while it is held: who waits sees it gone, and makes one
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
    """What is known of the file if it came from one of `urls`, else nothing."""
    try:
        state = json.loads(_state(path).read_text())
        return state if state["url_sha256"] in map(_digest, urls) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def is_whole(archive: Path, urls: list[str]) -> bool:
    """Whether the whole file lies here, and came from one of `urls`."""
    return archive.is_file() and bool(read_state(archive, *urls))


def drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def publish(archive: Path) -> None:
    """The download in progress is whole: it takes the place of the earlier copy."""
    part = part_of(archive)
    _state(archive).unlink(missing_ok=True)  # first, so that it never describes another file
    part.replace(archive)
    _state(part).replace(_state(archive))


def _state(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the address itself may hold a secret
