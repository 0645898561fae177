"""The list of what is forgotten in a home: a JSON line for each change of it.

    forgotten.jsonl

Lines are only ever appended. The last line about a conversation or a speaker counts. A line whose writer was
killed has no line break at its end: readers ignore it, and the next writer removes it.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from corpus.cleaning.forgotten import POSITION, Forgotten
from models.errors import InputError
from models.files import sync
from models.locks import lock
from models.record import Record

LIST = "forgotten.jsonl"

Kind = Literal["conversation", "speaker"]
KINDS: tuple[Kind, ...] = ("conversation", "speaker")


class Entry(Record):
    """A line of the list."""

    kind: Kind
    id: str
    """The id of a conversation or speaker, perhaps with the name of its source and a slash before it."""
    action: Literal["forget", "restore"]
    at: str
    """When the line was written, in UTC and ISO 8601."""
    reason: str = ""
    texts: list[str] = []
    """Digests of the texts of the conversations that had this id when the line was written."""

    @property
    def is_of_texts(self) -> bool:
        """Whether only the texts count, because the id is the place of the conversation in a file."""
        return bool(self.texts) and bool(POSITION.fullmatch(self.id))


def entries(home: Path) -> list[Entry]:
    """What is forgotten now, the oldest entry first.

    Raises:
        InputError: a line cannot be read. What it says is unknown, so nothing may be read without it.
    """
    last: dict[tuple[Kind, str], Entry] = {}
    for entry in _lines(home / LIST):
        last.pop((entry.kind, entry.id), None)
        last[entry.kind, entry.id] = entry
    return [entry for entry in last.values() if entry.action == "forget"]


def forgotten_in(home: Path, sources: Sequence[str] = ()) -> Forgotten:
    """What is forgotten now in the sources of these names.

    Raises:
        InputError: see `entries`.
    """
    listed = entries(home)
    return forgotten_of(listed)._replace(sources=tuple(sources))


def forgotten_of(listed: Iterable[Entry]) -> Forgotten:
    """What these entries name."""
    ids: dict[Kind, set[str]] = {"conversation": set(), "speaker": set()}
    texts: set[str] = set()
    for entry in listed:
        texts.update(entry.texts)
        if not entry.is_of_texts:
            ids[entry.kind].add(entry.id)
    return Forgotten(frozenset(ids["conversation"]), frozenset(ids["speaker"]), texts=frozenset(texts))


def append(home: Path, new: Iterable[Entry]) -> None:
    """Write entries to the end of the list; either all of them are in it afterwards, or the error is raised.

    Raises:
        InputError: a line of the list cannot be read, or the home cannot be written.
    """
    data = "".join(f"{entry.model_dump_json()}\n" for entry in new).encode()
    path = home / LIST
    try:
        home.mkdir(parents=True, exist_ok=True)
        with lock(path.with_suffix(".lock")):
            entries(home)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                _append(handle, data)
            finally:
                os.close(handle)
            sync(home)
    except PermissionError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): set REPARTEE_HOME to another folder"
        ) from None


def _append(handle: int, data: bytes) -> None:
    content = os.pread(handle, os.fstat(handle).st_size, 0)
    whole = content.rfind(b"\n") + 1
    os.ftruncate(handle, whole)  # the rest is a line whose writer was killed
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, whole)
        raise


def _lines(path: Path) -> Iterable[Entry]:
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        try:
            yield Entry.model_validate(json.loads(line.decode("utf-8-sig")))
        except (ValueError, ValidationError):
            raise InputError(
                f"{path}:{number} is no entry of the list of what is forgotten: correct the line, or delete "
                "it and repeat `repartee corpus forget` for what it named"
            ) from None
