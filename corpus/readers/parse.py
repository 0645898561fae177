"""Parse stage: reads the raw files of a corpus, in any format, into one table of turns.

The table has the schema TURNS (models/data/schemas.py). Nothing is dropped silently: every unusable line is
counted under its cause, the first 10,000 of them are stored in rejects.parquet, and report.json shows for
each role how many turns were read, kept, joined and left out.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.layout import LAYOUT, source_named, stored_sources
from corpus.readers.file_shards import read_tables
from corpus.readers.formats import unrecognised_error
from corpus.readers.parsing import ParseConfig, Parsing
from corpus.readers.rejects import TooManyRejects
from corpus.readers.writer import TurnsWriter
from models.data.schemas import REJECTS
from models.errors import DataRejected
from models.shards import Shards

log = logging.getLogger(__name__)

BY_FILE = ("formats", "conversations_by_file", "skipped_files")  # what report.json says about each file


def parse_corpus(out: Path, config: ParseConfig, download: Path, shards: Shards | None = None) -> int:
    """Write turns.parquet, rejects.parquet and report.json; return the number of turns.

    Args:
        shards: where what has been read of a file is stored, and found by a later run.

    Raises:
        DataRejected: the corpus contains no conversation, or too many of its lines cannot be used.
        InputError: a file is damaged.
    """
    sources = stored_sources(download)
    reports: dict[str, dict[str, Any]] = {}
    rejects: list[dict[str, str | int]] = []
    with TurnsWriter(out / "turns.parquet") as writer:
        for name, files in sources.items():
            is_mix = len(sources) > 1
            prefix = f"{name}/" if is_mix else ""
            parsing = Parsing(config, files)
            with source_named(name if is_mix else ""):
                _write_turns(writer, parsing, name, prefix, shards)
            _log(parsing, f"parse: {name}" if is_mix else "parse")
            reports[prefix] = parsing.report()
            rejects += [{**row, "file": f"{prefix}{row['file']}"} for row in parsing.rejects.rows]
    (out / "report.json").write_text(json.dumps(joined_reports(reports), indent=2) + "\n")
    rows = pa.Table.from_pylist(rejects, REJECTS)
    pq.write_table(rows, out / "rejects.parquet", compression="zstd")
    return writer.rows


def _write_turns(
    writer: TurnsWriter, parsing: Parsing, name: str, prefix: str, shards: Shards | None
) -> None:
    """Write the turns of one source; its name precedes the ids of its conversations if there are several.

    A group is named as in its source, so that it is in the same split whether or not there are other sources.
    """
    try:
        for turns in read_tables(parsing, shards):
            writer.write(turns, prefix)
    except TooManyRejects:
        raise too_many_rejects_error(name, parsing, "the first ") from None
    _check(name, parsing)


def joined_reports(reports: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One report on all sources, with the sums of their counts; the keys precede the names of the files."""
    named = [
        {
            key: {f"{prefix}{file}": each for file, each in value.items()} if key in BY_FILE else value
            for key, value in report.items()
        }
        for prefix, report in reports.items()
    ]
    return reduce(_sum, named)


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The sums of the numbers in two nested mappings, by key."""
    sums = dict(one)
    for key, value in other.items():
        if key not in sums:
            sums[key] = value
        else:
            sums[key] = _sum(sums[key], value) if isinstance(value, dict) else sums[key] + value
    return sums


def check_recognised(name: str, parsing: Parsing) -> None:
    """Check that at least one file was in a known format, and not empty.

    Raises:
        DataRejected: no file can be read.
    """
    if parsing.skipped and not parsing.conversations and not parsing.rejects.count:
        raise unrecognised_error(parsing.skipped)
    if not parsing.rejects.lines_read:
        raise DataRejected(f"{name}: the files are empty; use a corpus with conversations")


def _check(name: str, parsing: Parsing) -> None:
    """
    Raises:
        DataRejected: there are no turns, or too many of the lines cannot be used.
    """
    check_recognised(name, parsing)
    if parsing.rejects.share > parsing.config.max_reject_share:
        raise too_many_rejects_error(name, parsing)
    if not parsing.ledger.accepted.total():
        raise DataRejected(f"{name} has no conversations; use a corpus with conversations")


def too_many_rejects_error(name: str, parsing: Parsing, which_lines: str = "") -> DataRejected:
    """The error for too many rejects. It suggests a higher limit or, if most lines fail, another corpus."""
    rejects = parsing.rejects
    first, share = rejects.rows[0], math.ceil(100 * rejects.share) / 100
    more = f"--set parse.max_reject_share={share}"
    remedy = f"repair the file, or allow more with {more}"
    if rejects.cut_files:
        remedy = f"copy {rejects.cut_files[0]} again, or use what comes before this line with {more}"
    elif rejects.share > 0.5:
        remedy = "docs/corpora.md shows the formats that can be read"
        if example := LAYOUT.get(str(first["file"])):
            remedy = f"a line of {first['file']} must look like `{example}`: use a corpus in this layout"
    return DataRejected(
        f"{name}: {rejects.count:,} of {which_lines}{rejects.lines_read:,} lines cannot be used; the first "
        f"is {first['file']}:{first['line']} ({first['cause']}); {remedy}"
    )


def _log(parsing: Parsing, label: str) -> None:
    for name, reason in parsing.skipped.items():
        log.info("%s: %s is not read: it %s", label, name, reason)
    ledger = parsing.ledger
    left_out = sum((counts for counts in ledger.rejected.values()), Counter[str]())
    causes = "".join(f"; {count:,}: {cause}" for cause, count in left_out.most_common(5))
    system = f", {ledger.system:,} of them system texts" if ledger.system else ""
    log.info(
        "%s: %s turns read, %s kept%s, %s joined to the turn before, %s left out%s",
        label,
        f"{ledger.read.total():,}",
        f"{ledger.accepted.total() + ledger.system:,}",
        system,
        f"{ledger.joined.total():,}",
        f"{left_out.total():,}",
        causes,
    )
    reader = parsing.reader
    if set(reader.encodings) - {"ascii"}:
        counts = ", ".join(f"{count:,} {name}" for name, count in reader.encodings.most_common())
        log.info("%s: lines by encoding: %s", label, counts)
    if parsing.suspected_mojibake:
        log.warning(
            "%s: %s turns seem to have been decoded with the wrong encoding earlier (’ became â€™); they "
            "are used unchanged, but an undamaged copy of the corpus would give a better model",
            label,
            f"{parsing.suspected_mojibake:,}",
        )
    if parsing.rejects.cut_files:
        log.warning("%s: %s cannot be read to the end", label, ", ".join(parsing.rejects.cut_files))
