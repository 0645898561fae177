"""Formats: recognises what a file holds by its content, and yields its conversations.

A file's outer form (JSON, CSV, Parquet, Arrow, lines of text) gives its records; the first records decide
whether each of them is a conversation or a single turn. docs/corpora.md shows an example of each format.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from corpus.readers import speaker_lines, tables
from corpus.readers.columns import Columns
from corpus.readers.encodings import LineReader
from corpus.readers.json_values import Malformed, Record, has_a_value_per_line, read_json
from corpus.readers.messages import Row, Unusable, first_key, unknown_keys
from corpus.readers.opening import open_file, sample_of
from corpus.readers.records import LISTS, is_conversation, is_exchange, parts_of, read_record
from corpus.readers.rejects import Rejects
from corpus.readers.turn_rows import TurnRow, conversations_of, is_turn_row, read_row
from corpus.readers.turns import Conversation, Ledger, Turn
from models.errors import DataRejected, InputError

TRIED_RECORDS = 50  # so many records at most decide the format of a file
HEAD_BYTES = 1 << 18
GIT_LFS = b"version https://git-lfs"
# JSON, and not a line such as `[14:03] Ann: Hello.`
JSON_START = re.compile(r"[\s\ufeff]*(?:\{\s*[\"}]|\[\s*[\[{\"\]])")
Records = Iterator[Record | Malformed]


class Unrecognised(Exception):
    """A file is in no format that is read; the message says what it holds instead."""


def unrecognised_error(skipped: Mapping[str, str]) -> DataRejected:
    """The error if no file is in a known format; `skipped` has the reason for each of them."""
    first, reason = next(iter(skipped.items()))
    others = f", and none of the other {len(skipped) - 1} files can be read" if len(skipped) > 1 else ""
    return DataRejected(f"{first} {reason}{others}; docs/corpora.md shows the formats that can be read")


@contextmanager
def damage_reported(name: str) -> Iterator[None]:
    """Report the damage of the file that is read inside this context.

    Raises:
        InputError: the file is damaged.
    """
    try:
        yield
    except tables.damage_errors() as error:  # evaluated only after an error, because it loads pyarrow
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} is damaged or cut off ({reason}): copy the file again") from None


@dataclass(frozen=True)
class Recognised:
    """What a file holds, and its records, of which the first ones have been read to recognise it."""

    format: str
    """For people to read, such as `JSON Lines, one conversation per record`."""
    records: Records | None
    """The records; None if the file is plain text."""
    has_turns: bool
    """Whether each record is a single turn."""


def recognise(path: Path, columns: Columns, reader: LineReader) -> Recognised:
    """Recognise the format of a file by its content.

    Raises:
        Unrecognised: the file holds no conversations in a known format.
        InputError: the file is a placeholder of Git LFS.
    """
    with open_file(path) as file:
        head = sample_of(file, HEAD_BYTES)
    if head.startswith(GIT_LFS):
        raise InputError(
            f"{path.name} is a placeholder of Git LFS, not the file itself: fetch it with `git lfs pull`"
        )
    if not head.strip():
        raise Unrecognised("is empty")
    form, records = _records(path, head, columns, reader)
    if records is None:
        return Recognised(f"{form}, one turn per line", None, has_turns=False)
    first = list(islice(records, TRIED_RECORDS))
    kind = _kind(first)
    if kind is None:
        raise Unrecognised(_reason(first))
    has_turns = kind == "turn"
    if not has_turns and any(isinstance(record, Record) and is_exchange(record.value) for record in first):
        kind = "exchange"
    return Recognised(f"{form}, one {kind} per record", chain(first, records), has_turns)


def read_file(
    path: Path, name: str, found: Recognised, reader: LineReader, rejects: Rejects, ledger: Ledger
) -> Iterator[Conversation]:
    """Yield the conversations of a file. What cannot be used is added to `rejects` and to `ledger`.

    Args:
        name: the name of the file in `rejects`.

    Raises:
        TooManyRejects: the share of unusable records is larger than `rejects` allows.
    """
    if found.records is None:
        yield from _read_speaker_lines(path, name, reader, rejects)
    elif found.has_turns:
        yield from _read_turn_rows(name, found.records, rejects, ledger)
    else:
        yield from _read_records(name, found.records, rejects, ledger)


def _records(path: Path, head: bytes, columns: Columns, reader: LineReader) -> tuple[str, Records | None]:
    """The outer form of a file, and its records; None instead of the records if the file is plain text.

    Raises:
        Unrecognised: the file is neither JSON nor a table nor plain text with speakers.
    """
    if head.startswith(tables.PARQUET):
        return "Parquet", columns.renamed(tables.parquet_rows(path))
    if head.startswith((tables.ARROW_FILE, tables.ARROW_STREAM)):
        return "Arrow", columns.renamed(tables.arrow_rows(path))
    text = next(reader.pieces(path), "")
    start = text.lstrip()
    is_dialogue = not JSON_START.match(text) and speaker_lines.is_dialogue(text.splitlines()[:1000])
    if start.startswith(("{", "[")) and not is_dialogue:
        return _json_form(path, columns, reader, _is_record)
    lines = tables.lines_of(iter([text]))
    delimiter, names = tables.csv_header(lines)
    # A title such as "Dialogue" is no table with one column, unless this column has lists.
    is_table = len(names) > 1 or next(lines, "").lstrip('" ').startswith("[")
    if is_table and _is_known(columns.renamed_keys(dict.fromkeys(names, ""))):
        form = "TSV" if delimiter == "\t" else "CSV"
        return form, columns.renamed(tables.csv_rows(path, reader))
    if is_dialogue:
        return "plain text", None
    if start.startswith('"'):
        return _json_form(path, columns, reader, is_conversation)
    if len(names) > 1:
        shown = ", ".join(ascii(name[:40])[1:-1] for name in names[:8])
        raise Unrecognised(f"looks like a table with the columns {shown}; none of them is a known column")
    raise Unrecognised("is text, but its lines do not begin with speakers, as in `Ann: Hello.`")


def _json_form(
    path: Path, columns: Columns, reader: LineReader, is_record: Callable[[Any], bool]
) -> tuple[str, Records]:
    by_line = has_a_value_per_line(path, reader)
    records = read_json(path, reader, is_record, by_line=by_line)
    return "JSON Lines" if by_line else "JSON", columns.renamed(records)


def _is_record(value: Any) -> bool:
    return is_conversation(value) or is_turn_row(value)


def _is_known(row: Row) -> bool:
    return is_turn_row(row) or is_exchange(row) or first_key(row, LISTS) is not None


def _kind(records: list[Record | Malformed]) -> str | None:
    """`conversation` or `turn`, whichever most of the records are; None if they are neither."""
    kinds: Counter[str] = Counter()
    for record in records:
        if isinstance(record, Record):
            if any(is_conversation(value) for value, _ in islice(parts_of(record.value), TRIED_RECORDS)):
                kinds["conversation"] += 1
            elif is_turn_row(record.value):
                kinds["turn"] += 1
    return max(kinds, key=lambda kind: kinds[kind]) if kinds else None


def _reason(records: list[Record | Malformed]) -> str:
    if not records:
        return "holds no records"
    first = records[0]
    if isinstance(first, Malformed):
        return f"line {first.line}: {first.cause}"
    if isinstance(first.value, dict):
        return unknown_keys(first.value).replace("it has", "has")
    try:
        read_record(first.value, "")
    except Unusable as unusable:
        return f"line {first.line}: {unusable}"
    return f"line {first.line}: no conversation"


def _read_records(name: str, records: Records, rejects: Rejects, ledger: Ledger) -> Iterator[Conversation]:
    number = 0
    for record in records:
        if isinstance(record, Malformed):
            _add_malformed(name, record, rejects)
            continue
        for value, key in parts_of(record.value, record.key):
            number += 1
            rejects.lines_read += 1
            default_id = key or f"{name}:{record.line if record.line > 1 else number}"
            try:
                yield read_record(value, default_id)
            except Unusable as unusable:
                ledger.reject(unusable.turns, str(unusable))
                rejects.add(name, record.line, str(unusable), record.raw)
            except RecursionError:
                rejects.add(name, record.line, "nested too deeply", record.raw)


def _read_turn_rows(name: str, records: Records, rejects: Rejects, ledger: Ledger) -> Iterator[Conversation]:
    rows: list[TurnRow] = []
    for record in records:
        if isinstance(record, Malformed):
            _add_malformed(name, record, rejects)
            continue
        rejects.lines_read += 1
        try:
            if not isinstance(record.value, dict):
                raise Unusable("not an object")
            if not tables.empty_row(record.value):
                rows.append(read_row(record.value, record.line, record.raw))
        except Unusable as unusable:
            ledger.reject([Turn("", "")], str(unusable))
            rejects.add(name, record.line, str(unusable), record.raw)
    unusable_rows: list[tuple[TurnRow, str]] = []
    yield from conversations_of(rows, unusable_rows)
    for row, cause in unusable_rows:
        ledger.reject([row.turn], cause)
        rejects.add(name, row.line, cause, row.raw)


def _read_speaker_lines(
    path: Path, name: str, reader: LineReader, rejects: Rejects
) -> Iterator[Conversation]:
    for line, conversation in speaker_lines.read_conversations(path, reader):
        rejects.lines_read += len(conversation.turns)
        yield Conversation(f"{name}:{line}", conversation.turns)


def _add_malformed(name: str, malformed: Malformed, rejects: Rejects) -> None:
    rejects.lines_read += malformed.lines
    rejects.add(name, malformed.line, malformed.cause, malformed.raw, lines=malformed.lines)
    if malformed.ends_file:
        rejects.cut_files.append(name)
