"""Parse stage: reads the raw files of a corpus, in any format, into one table of turns.

The table has the schema TURNS (models/data/schemas.py). Nothing is dropped silently: every unusable line is
counted under its cause, the first 10,000 of them are stored in rejects.parquet, and report.json shows for
each role how many turns were read, kept, joined and left out.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from corpus.layout import CORNELL, LAYOUT, source_named, stored_sources
from corpus.readers import cornell
from corpus.readers.columns import Columns
from corpus.readers.encodings import LineReader, is_mojibake
from corpus.readers.formats import (
    Unrecognised,
    damage_reported,
    read_file,
    recognise,
    unrecognised_error,
)
from corpus.readers.rejects import Rejects, TooManyRejects
from corpus.readers.turns import Conversation, Ledger, Turn, group_of, settle, system_of
from corpus.readers.writer import TurnsWriter
from models.config import Config
from models.data.schemas import REJECTS
from models.errors import DataRejected

log = logging.getLogger(__name__)

BY_FILE = ("formats", "conversations_by_file", "skipped_files")  # what report.json says about each file


class ParseConfig(Config):
    max_reject_share: float = Field(default=0.01, ge=0, le=1)
    """The largest acceptable share of unusable lines in a source. If more lines are unusable, the run fails,
    because the source is probably in a different format. A file that cannot be read to its end counts as
    0.05."""
    columns: Columns = Columns()


class Parsing:
    """Reads the files of a corpus: what has been read so far, and what became of it."""

    def __init__(self, config: ParseConfig, files: Mapping[str, Path], *, is_strict: bool = True) -> None:
        """
        Args:
            files: the paths of the files by the names that messages and counts give them.
            is_strict: whether reading ends as soon as the share of unusable lines is certainly too large.
        """
        self.config, self.files = config, files
        self.reader, self.ledger = LineReader(), Ledger()
        self.cornell = cornell.paths_in(files)
        total = cornell.count_all_lines(self.cornell) if self.cornell else math.inf
        max_share = config.max_reject_share if is_strict else math.inf
        self.rejects = Rejects(max_share=max_share, total_lines=total)
        self.formats: dict[str, str] = dict.fromkeys(files, CORNELL) if self.cornell else {}
        """The format of each file that is read, for people."""
        self.conversations: Counter[str] = Counter()
        """The number of conversations of each file that was read."""
        self.skipped: dict[str, str] = {}
        """Why a file was not read, by the file's name."""
        self.empty_conversations = 0
        self.suspected_mojibake = 0

    def read(self) -> Iterator[tuple[Conversation, list[Turn]]]:
        """Yield the conversations of all files that have turns, each with these turns.

        Raises:
            InputError: a file is damaged.
            TooManyRejects: the share of unusable lines is too large.
        """
        for conversation in self._conversations():
            turns = settle(conversation, self.ledger, join=self.cornell is None)
            self.suspected_mojibake += sum(is_mojibake(turn.text) for turn in turns)
            if turns:
                yield conversation, turns
            else:
                self.empty_conversations += 1

    def _conversations(self) -> Iterator[Conversation]:
        if self.cornell:
            yield from cornell.read_conversations(self.cornell, self.reader, self.rejects)
            return
        for name, path in self.files.items():
            try:
                with damage_reported(name):
                    found = recognise(path, self.config.columns, self.reader)
                    self.formats[name] = found.format
                    for conversation in read_file(path, name, found, self.reader, self.rejects, self.ledger):
                        self.conversations[name] += 1
                        yield conversation
            except Unrecognised as unrecognised:
                self.skipped[name] = str(unrecognised)

    def report(self) -> dict[str, Any]:
        return {
            "lines_read": self.rejects.lines_read,
            "turns": self.ledger.accepted.total(),
            "rejected": dict(self.rejects.by_cause.most_common()),
            "turns_by_role": self.ledger.as_dict(),
            "conversations_without_turns": self.empty_conversations,
            "formats": self.formats,
            "conversations_by_file": dict(self.conversations),
            "skipped_files": self.skipped,
            "encodings": dict(self.reader.encodings.most_common()),
            "suspected_mojibake": self.suspected_mojibake,
        }


def parse_corpus(out: Path, config: ParseConfig, download: Path) -> int:
    """Write turns.parquet, rejects.parquet and report.json; return the number of turns.

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
                _write_turns(writer, parsing, name, prefix)
            _log(parsing, f"parse: {name}" if is_mix else "parse")
            reports[prefix] = parsing.report()
            rejects += [{**row, "file": f"{prefix}{row['file']}"} for row in parsing.rejects.rows]
    (out / "report.json").write_text(json.dumps(joined_reports(reports), indent=2) + "\n")
    rows = pa.Table.from_pylist(rejects, REJECTS)
    pq.write_table(rows, out / "rejects.parquet", compression="zstd")
    return writer.rows


def _write_turns(writer: TurnsWriter, parsing: Parsing, name: str, prefix: str) -> None:
    """Write the turns of one source; its name precedes the ids of its conversations if there are several.

    A group is named as in its source, so that it is in the same split whether or not there are other sources.
    """
    try:
        for conversation, turns in parsing.read():
            system = system_of(conversation)
            writer.write(f"{prefix}{conversation.id}", turns, group_of(conversation, turns), system)
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
