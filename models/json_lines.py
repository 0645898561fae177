"""JSON lines: a file to which records are only ever appended, a line for each."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from models.record import Record

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Record)


def append_line(path: Path, record: Record) -> None:
    """Append a record in one write, and flush it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line break before the line separates it from one whose writer was killed.
    line = b"\n" + record.model_dump_json().encode() + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
        os.fsync(handle)
    finally:
        os.close(handle)


def read_lines(path: Path, kind: type[Kind]) -> Iterator[Kind]:
    """Yield the records, the oldest first. A line that cannot be read is skipped with a warning."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield kind.model_validate(json.loads(line))
        except ValueError:  # a process was killed while it wrote the line
            log.warning("gate: line %d of %s cannot be read and is skipped", number, path)
