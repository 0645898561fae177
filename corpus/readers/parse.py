"""Parse: reads the raw Cornell layout into TURNS.

No line is dropped silently: each one that cannot be used is stored in rejects.parquet with its cause.
"""

import json
import logging
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from corpus.layout import CONVERSATIONS, LAYOUT, LINES, MEMBERS
from corpus.readers.cornell import read_turns
from corpus.readers.encodings import LineReader, count_lines
from corpus.readers.rejects import Rejects, TooManyRejects
from models.config import Config
from models.data.schemas import REJECTS
from models.errors import DataRejected

log = logging.getLogger(__name__)


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """The run fails if a larger share of the lines is unusable: the format is probably another one."""


def parse_corpus(out: Path, config: ParseConfig, download: Path) -> int:
    """Raw files -> turns.parquet, rejects.parquet (the first 10,000), report.json.

    Raises:
        DataRejected: there is no conversation, or too many lines cannot be used.
    """
    name = json.loads((download / "logs" / "source.json").read_text())["name"]
    lines = sum(count_lines(download / member) for member in MEMBERS)
    reader, rejects = LineReader(), Rejects(max_share=config.max_reject_share, total_lines=lines)
    try:
        turns = read_turns(download, reader, rejects)
    except TooManyRejects:
        raise _too_many_rejects_error(name, rejects, "the first ") from None
    if not rejects.lines_read:
        raise DataRejected(f"{name}: {LINES} and {CONVERSATIONS} are empty; give a corpus with conversations")
    if rejects.count / rejects.lines_read > config.max_reject_share:
        raise _too_many_rejects_error(name, rejects)
    if not turns.num_rows:
        raise DataRejected(f"{name}: {CONVERSATIONS} holds no conversation; give a corpus that has some")
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


def _too_many_rejects_error(name: str, rejects: Rejects, of_the: str = "") -> DataRejected:
    """The error for too many rejects. It names the share that would suffice, or else the right format."""
    first, share = rejects.rows[0], math.ceil(100 * rejects.count / rejects.lines_read) / 100
    remedy = f"mend the file, or allow more with --set parse.max_reject_share={share}"
    if share > 0.5:
        remedy = f"a line of {first['file']} is `{LAYOUT[str(first['file'])]}`: give a corpus in this layout"
    return DataRejected(
        f"{name}: {rejects.count:,} of {of_the}{rejects.lines_read:,} lines cannot be used, first "
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
