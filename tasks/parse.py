"""Parse: the raw Cornell layout becomes TURNS, and nothing is dropped in silence.

movie_lines.txt says who said what, in no useful order; only movie_conversations.txt says which
line answers which. Every line that cannot be used is kept in rejects.parquet with its cause.
"""

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from pydantic import Field

from corpus.readers.encodings import LINE_BYTES, LineReader, count_lines
from corpus.source import MEMBERS
from models.config import Config
from models.data.schemas import REJECTS, TURNS
from models.errors import DataRejected
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

log = logging.getLogger(__name__)

LINES, CONVERSATIONS = MEMBERS
SEPARATOR = " +++$+++ "
LAYOUT = {
    LINES: SEPARATOR.join(("L1", "u0", "m0", "NAME", "text")),
    CONVERSATIONS: SEPARATOR.join(("u0", "u1", "m0", "['L1', 'L2']")),
}
REJECTS_STORED = 10_000  # with their text; the others are counted

# One id in either kind of quotes. Between two ids stands a comma, or blanks alone, as numpy prints a list.
_ID = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_IDS = re.compile(rf"\[\s*{_ID}(?:(?:\s*,\s*|\s+){_ID})*\s*,?\s*\]")


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """More unusable lines than this share fail the run: it is probably another format."""


class Rejects:
    """The lines that could not be used: all are counted by cause, the first ones are stored."""

    def __init__(self, most: float = math.inf) -> None:
        """`most`: how many there may be; one more ends the reading once no more are stored."""
        self.rows: list[dict[str, str | int]] = []
        self.by_cause: Counter[str] = Counter()
        self.read = 0
        self.most = most

    @property
    def count(self) -> int:
        return self.by_cause.total()

    def add(self, file: str, line: int, cause: str, raw: str) -> None:
        """
        Raises:
            TooManyRejects: more than `most`, so that reading on cannot help.
        """
        self.by_cause[cause] += 1
        if len(self.rows) < REJECTS_STORED:
            sample = raw[:200].encode("utf-8", "replace").decode()  # half of a surrogate pair has no UTF-8
            self.rows.append({"file": file, "line": line, "cause": cause, "sample": sample})
        elif self.count > self.most:
            raise TooManyRejects


class TooManyRejects(Exception):
    """The share of unusable lines cannot be met any more."""


def records(path: Path, reader: LineReader, rejects: Rejects, fields: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each well-formed line.

    The last field may be empty: its separator's blank is then the end of the line.
    """
    for number, (text, is_whole) in enumerate(reader.lines(path), 1):
        rejects.read += 1
        if not is_whole:
            rejects.add(path.name, number, f"longer than {LINE_BYTES:,} bytes", text)
            continue
        if not text.strip():
            continue
        parts = text.split(SEPARATOR, fields - 1)
        if len(parts) == fields - 1 and text.endswith(SEPARATOR.rstrip()):
            parts = [*parts[:-1], parts[-1].removesuffix(SEPARATOR.rstrip()).rstrip(), ""]
        if len(parts) == fields:
            yield number, parts
        else:
            rejects.add(path.name, number, f"{len(parts)} fields, not {fields}", text)


def read_lines(path: Path, reader: LineReader, rejects: Rejects) -> dict[str, tuple[str, str, str]]:
    """line id -> (speaker id, movie id, text); a line that only repeats another one is passed over."""
    lines: dict[str, tuple[str, str, str]] = {}
    for number, (line_id, speaker, movie, _, text) in records(path, reader, rejects, fields=5):
        line = (speaker.strip(), movie.strip(), text)
        if lines.setdefault(line_id.strip(), line) != line:
            rejects.add(path.name, number, "this line id was used before for another line", line_id)
    return lines


def line_ids(field: str) -> list[str] | None:
    """The ids in `['L194', 'L195']`, or None if that is not what it is; nothing is evaluated.

    The list may be in the double quotes of a CSV file, where `""` stands for a quote.
    """
    text = field.strip()
    if text.startswith('"') and text.endswith('"'):
        text = text[1:-1].replace('""', '"').strip()
    if not _IDS.fullmatch(text):
        return None
    return [quoted[1:-1].strip() for quoted in re.findall(_ID, text)]


def read_turns(folder: Path, reader: LineReader, rejects: Rejects) -> pa.Table:
    """TURNS in the order in which they were said."""
    lines = read_lines(folder / LINES, reader, rejects)
    columns: dict[str, list[Any]] = {name: [] for name in TURNS.names}
    first_ids: Counter[str] = Counter()
    for number, (_, _, movie, field) in records(folder / CONVERSATIONS, reader, rejects, fields=4):
        ids = line_ids(field)
        if ids is None:
            rejects.add(CONVERSATIONS, number, "not a list of line ids", field)
            continue
        if unknown := list(islice((i for i in ids if i not in lines), 10)):
            rejects.add(CONVERSATIONS, number, "names a line that is not there", ", ".join(unknown))
            continue
        first_ids[ids[0]] += 1
        conversation = ids[0] if first_ids[ids[0]] == 1 else f"{ids[0]}-{first_ids[ids[0]]}"
        for turn, line_id in enumerate(ids):
            speaker, _, text = lines[line_id]
            values = (conversation, turn, speaker, text, movie.strip())
            for name, value in zip(TURNS.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=TURNS)


def parse_corpus(out: Path, config: ParseConfig, download: Path) -> int:
    """Raw files -> turns.parquet, rejects.parquet (the first 10,000), report.json.

    Raises:
        DataRejected: there is no conversation, or too many lines cannot be used.
    """
    name = json.loads((download / "logs" / "source.json").read_text())["name"]
    lines = sum(count_lines(download / member) for member in MEMBERS)
    reader, rejects = LineReader(), Rejects(most=config.max_reject_share * lines)
    try:
        turns = read_turns(download, reader, rejects)
    except TooManyRejects:
        raise _rejected(name, rejects, "the first ") from None
    if not rejects.read:
        raise DataRejected(f"{name}: {LINES} and {CONVERSATIONS} are empty; give a corpus with conversations")
    if rejects.count > config.max_reject_share * rejects.read:
        raise _rejected(name, rejects)
    if not turns.num_rows:
        raise DataRejected(f"{name}: {CONVERSATIONS} holds no conversation; give a corpus that has some")
    report = {
        "lines_read": rejects.read,
        "turns": turns.num_rows,
        "rejected": dict(rejects.by_cause.most_common()),
        "encodings": dict(reader.encodings.most_common()),
        "suspected_mojibake": reader.suspected_mojibake,
    }
    _log_encodings(reader)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    pq.write_table(turns, out / "turns.parquet", compression="zstd")
    pq.write_table(pa.Table.from_pylist(rejects.rows, REJECTS), out / "rejects.parquet", compression="zstd")
    return int(turns.num_rows)


def _rejected(name: str, rejects: Rejects, of_the: str = "") -> DataRejected:
    """Too many rejects; the share that would do is named unless it is that of another format."""
    first, share = rejects.rows[0], math.ceil(100 * rejects.count / rejects.read) / 100
    remedy = f"mend the file, or allow more with --set parse.max_reject_share={share}"
    if share > 0.5:
        remedy = f"a line of {first['file']} is `{LAYOUT[str(first['file'])]}`: give a corpus in this layout"
    return DataRejected(
        f"{name}: {rejects.count:,} of {of_the}{rejects.read:,} lines cannot be used, first "
        f"{first['file']}:{first['line']} ({first['cause']}); {remedy}"
    )


def _log_encodings(reader: LineReader) -> None:
    if set(reader.encodings) - {"ascii"}:
        counts = ", ".join(f"{count:,} {name}" for name, count in reader.encodings.most_common())
        log.info("parse: lines by encoding: %s", counts)
    if reader.suspected_mojibake:
        log.warning(
            "parse: %s lines look as if they had been read in a wrong encoding before (’ as â€™); they stay "
            "as they are: a better copy of the corpus gives a better model",
            f"{reader.suspected_mojibake:,}",
        )


STAGE = Stage("parse", parse_corpus)


@task(task_run_name="parse")
def parse(download: Artifact, config: ParseConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"download": download}))
