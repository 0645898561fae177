"""Parse stage: reads the two raw files of the Cornell layout into one table of turns.

The table has the schema TURNS (models/data/schemas.py). No line is dropped silently: every unusable line is
counted under its cause, and the first 10,000 of them are stored in rejects.parquet.
"""

import json
import logging
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from corpus.layout import CONVERSATIONS, LAYOUT, LINES, MEMBERS, SOURCE, Origin
from corpus.readers.cornell import read_turns
from corpus.readers.encodings import LineReader, count_lines
from corpus.readers.rejects import Rejects, TooManyRejects
from models.config import Config
from models.data.schemas import REJECTS
from models.errors import DataRejected

log = logging.getLogger(__name__)


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """The largest acceptable share of unusable lines. If more lines are unusable, the run fails, because the
    corpus is probably in a different format."""


def parse_corpus(out: Path, config: ParseConfig, download: Path) -> int:
    """Write turns.parquet, rejects.parquet and report.json; return the number of turns.

    Raises:
        DataRejected: the corpus contains no conversation, or too many of its lines cannot be used.
    """
    name = Origin.read(download / SOURCE).name
    lines = sum(count_lines(download / member) for member in MEMBERS)
    reader, rejects = LineReader(), Rejects(max_share=config.max_reject_share, total_lines=lines)
    try:
        turns = read_turns(download, reader, rejects)
    except TooManyRejects:
        raise _too_many_rejects_error(name, rejects, "the first ") from None
    if not rejects.lines_read:
        raise DataRejected(f"{name}: {LINES} and {CONVERSATIONS} are empty; use a corpus with conversations")
    if rejects.count / rejects.lines_read > config.max_reject_share:
        raise _too_many_rejects_error(name, rejects)
    if not turns.num_rows:
        raise DataRejected(f"{name}: {CONVERSATIONS} has no conversations; use a corpus with conversations")
    report = {
        "lines_read": rejects.lines_read,
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


def _too_many_rejects_error(name: str, rejects: Rejects, which_lines: str = "") -> DataRejected:
    """The error for too many rejects. It suggests a higher limit or, if most lines fail, another corpus."""
    first, share = rejects.rows[0], math.ceil(100 * rejects.count / rejects.lines_read) / 100
    remedy = f"repair the file, or allow more with --set parse.max_reject_share={share}"
    if share > 0.5:
        remedy = (
            f"a line of {first['file']} must look like `{LAYOUT[str(first['file'])]}`: use a corpus in this "
            "layout"
        )
    return DataRejected(
        f"{name}: {rejects.count:,} of {which_lines}{rejects.lines_read:,} lines cannot be used; the first "
        f"is {first['file']}:{first['line']} ({first['cause']}); {remedy}"
    )


def _log_encodings(reader: LineReader) -> None:
    if set(reader.encodings) - {"ascii"}:
        counts = ", ".join(f"{count:,} {name}" for name, count in reader.encodings.most_common())
        log.info("parse: lines by encoding: %s", counts)
    if reader.suspected_mojibake:
        log.warning(
            "parse: %s lines seem to have been decoded with the wrong encoding earlier (’ became â€™); they "
            "are used unchanged, but an undamaged copy of the corpus would give a better model",
            f"{reader.suspected_mojibake:,}",
        )
