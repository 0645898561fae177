"""Parse: the raw Cornell layout becomes TURNS, and nothing is dropped in silence.

movie_lines.txt says who said what, in no useful order; only movie_conversations.txt says which
line answers which. Every line that cannot be used is kept in rejects.parquet with its cause.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from pydantic import Field

from models.config import Config
from models.errors import DataRejected
from models.schemas import REJECTS, TURNS
from tasks.artifacts import Artifact
from tasks.sources import MEMBERS
from tasks.stage import Stage, named

LINES, CONVERSATIONS = MEMBERS
SEPARATOR = " +++$+++ "
LINE_BYTES = 1 << 20  # a longer line is no utterance; reading stops there and goes on behind it

# Windows-1252, and Latin-1 for the five bytes that it leaves undefined: no byte is ever lost.
DECODING = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256))


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """More unusable lines than this share fail the run: it is probably another format."""


class Rejects:
    """The lines that could not be used, by cause."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str | int]] = []
        self.read = 0

    def add(self, file: str, line: int, cause: str, raw: str) -> None:
        self.rows.append({"file": file, "line": line, "cause": cause, "sample": raw[:200]})

    def by_cause(self) -> dict[str, int]:
        return dict(Counter(str(row["cause"]) for row in self.rows).most_common())


def records(path: Path, rejects: Rejects, fields: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each well-formed line.

    The last field may be empty: its separator's blank is then the end of the line.
    """
    with path.open("rb") as file:
        for number, (raw, whole) in enumerate(_bounded_lines(file), 1):
            rejects.read += 1
            if not whole:
                rejects.add(path.name, number, f"longer than {LINE_BYTES:,} bytes", _decode(raw))
                continue
            text = _decode(raw.rstrip(b"\r\n"))
            if not text.strip():
                continue
            parts = text.split(SEPARATOR, fields - 1)
            if len(parts) == fields - 1 and text.endswith(SEPARATOR.rstrip()):
                parts = [*parts[:-1], parts[-1].removesuffix(SEPARATOR.rstrip()).rstrip(), ""]
            if len(parts) == fields:
                yield number, parts
            else:
                rejects.add(path.name, number, f"{len(parts)} fields, not {fields}", text)


def _bounded_lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """(line, whether it is whole): of one that is too long only the beginning is kept in memory."""
    while raw := file.readline(LINE_BYTES):
        whole, end = True, raw
        while not end.endswith(b"\n") and (end := file.readline(LINE_BYTES)):
            whole = False
        yield raw, whole


def _decode(raw: bytes) -> str:
    return raw.decode("latin-1").translate(_TABLE)


_TABLE = dict(enumerate(DECODING))


def read_lines(path: Path, rejects: Rejects) -> dict[str, tuple[str, str, str]]:
    """line id -> (speaker id, movie id, text)."""
    lines: dict[str, tuple[str, str, str]] = {}
    for number, (line_id, speaker, movie, _, text) in records(path, rejects, fields=5):
        if line_id.strip() in lines:
            rejects.add(path.name, number, "this line id was used before", line_id)
            continue
        lines[line_id.strip()] = (speaker.strip(), movie.strip(), text)
    return lines


def line_ids(field: str) -> list[str] | None:
    """The ids in `['L194', 'L195']`, or None if that is not what it is."""
    try:
        ids = ast.literal_eval(field.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    well_formed = isinstance(ids, list) and ids and all(isinstance(i, str) for i in ids)
    return ids if well_formed else None


def read_turns(folder: Path, rejects: Rejects) -> pa.Table:
    """TURNS in the order in which they were said."""
    lines = read_lines(folder / LINES, rejects)
    columns: dict[str, list[Any]] = {name: [] for name in TURNS.names}
    seen: Counter[str] = Counter()
    for number, (_, _, movie, field) in records(folder / CONVERSATIONS, rejects, fields=4):
        ids = line_ids(field)
        if ids is None:
            rejects.add(CONVERSATIONS, number, "not a list of line ids", field)
            continue
        unknown = [i for i in ids if i not in lines]
        if unknown:
            rejects.add(CONVERSATIONS, number, "names a line that is not there", ", ".join(unknown))
            continue
        seen[ids[0]] += 1
        conversation = ids[0] if seen[ids[0]] == 1 else f"{ids[0]}-{seen[ids[0]]}"
        for turn, line_id in enumerate(ids):
            speaker, _, text = lines[line_id]
            values = (conversation, turn, speaker, text, movie.strip())
            for name, value in zip(TURNS.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=TURNS)


def parse_corpus(out: Path, config: ParseConfig, download: Path) -> int:
    """Raw files -> turns.parquet, rejects.parquet, report.json.

    Raises:
        InputError: there is no conversation, or too many lines cannot be used.
    """
    rejects = Rejects()
    turns = read_turns(download, rejects)
    report = {"lines_read": rejects.read, "turns": turns.num_rows, "rejected": rejects.by_cause()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    name = json.loads((download / "logs" / "source.json").read_text())["name"]
    if not rejects.read:
        raise DataRejected(f"{name}: {LINES} and {CONVERSATIONS} are empty; give a corpus with conversations")
    if len(rejects.rows) > config.max_reject_share * rejects.read:
        first = rejects.rows[0]
        raise DataRejected(
            f"{name}: {len(rejects.rows):,} of {rejects.read:,} lines cannot be used, first "
            f"{first['file']}:{first['line']} ({first['cause']}); mend the file, or allow more "
            f"with --set parse.max_reject_share=0.5"
        )
    if not turns.num_rows:
        raise DataRejected(f"{name}: {CONVERSATIONS} holds no conversation; give a corpus that has some")
    pq.write_table(turns, out / "turns.parquet", compression="zstd")
    pq.write_table(pa.Table.from_pylist(rejects.rows, REJECTS), out / "rejects.parquet", compression="zstd")
    return int(turns.num_rows)


STAGE = Stage("parse", parse_corpus)


@task(task_run_name="parse")
def parse(download: Artifact, config: ParseConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"download": download}))
