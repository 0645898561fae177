"""Tables: reads the rows of CSV, TSV, Parquet and Arrow files as objects, one after another."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from corpus.readers.encodings import LineReader
from corpus.readers.json_values import Malformed, Record
from corpus.readers.opening import DAMAGE_ERRORS

if TYPE_CHECKING:  # importing pyarrow takes a third of a second, and a text file needs none of it
    import pyarrow as pa

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
DELIMITERS = ",\t;|"
SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[,\t;|])"?\s*', re.IGNORECASE)
FIELD_CHARACTERS = 1 << 24  # a longer field is probably the rest of the file after a quote that never closes
BATCH_ROWS = 1000


def damage_errors() -> tuple[type[Exception], ...]:
    """The exceptions that reading a damaged or truncated file of any kind raises."""
    import pyarrow as pa

    return (*DAMAGE_ERRORS, pa.ArrowException)


def parquet_rows(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file.

    Raises:
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from _rows(file.iter_batches(BATCH_ROWS))


def arrow_rows(path: Path) -> Iterator[Record]:
    """Yield the rows of an Arrow file, such as those in the folder of a `datasets` data set.

    Raises:
        OSError, pyarrow.ArrowException: the file is damaged.
    """
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        if file.read(len(ARROW_FILE)) == ARROW_FILE:
            table = pa.ipc.open_file(file)
            yield from _rows(table.get_batch(i) for i in range(table.num_record_batches))
        else:
            file.seek(0)
            yield from _rows(iter(pa.ipc.open_stream(file)))


def csv_header(lines: Iterator[str]) -> tuple[str, list[str]]:
    """Read the header line of a table; blank lines and a line such as `sep=;` may come before it.

    Returns:
        The delimiter and the names of the columns; a single name if the line is not that of a table.
    """
    line = next((line for line in lines if line.strip()), "")
    delimiter = max(DELIMITERS, key=line.count)
    if separator := SEPARATOR_LINE.fullmatch(line):  # written by Excel, and not a part of the table
        delimiter, line = separator["delimiter"], next(lines, "")
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        names = [line]
    return delimiter, column_names(names)


def column_name(name: str) -> str:
    """A column's name in the form in which names are compared: `Conversation ID` is `conversation_id`."""
    return "_".join(name.strip().lower().split())


def column_names(names: Iterable[str]) -> list[str]:
    """The names of the columns of a table; a name that occurs again gets a number."""
    found: Counter[str] = Counter()
    unique = []
    for name in map(column_name, names):
        found[name] += 1
        unique.append(name if found[name] == 1 else f"{name}_{found[name]}")
    return unique


def csv_rows(path: Path, reader: LineReader) -> Iterator[Record | Malformed]:
    """Yield the rows of a CSV or TSV file whose first line has the column names."""
    csv.field_size_limit(FIELD_CHARACTERS)
    lines = _CountedLines(lines_of(reader.pieces(path)))
    delimiter, names = csv_header(lines)
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        start = lines.number + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(start, str(error), "", ends_file=True, lines=lines.number - start + 1)
            return
        raw = delimiter.join(row)[:200]
        spanned = lines.number - start + 1
        if lines.has_ended:  # the reader only asks for another line inside a quoted field
            yield Malformed(start, "a quotation mark is never closed", raw, lines=spanned)
        elif len(row) == len(names):
            yield Record(start, dict(zip(names, row, strict=True)), raw=raw)
        elif any(field.strip() for field in row):
            yield Malformed(start, f"{len(row)} fields, not {len(names)}", raw, lines=spanned)


class _CountedLines:
    """An iterator over lines that knows how many it has returned, and whether it was asked for more."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.number = 0
        self.has_ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.has_ended = True
            raise StopIteration
        self.number += 1
        return line


def _rows(batches: "Iterator[pa.RecordBatch]") -> Iterator[Record]:
    number = 1
    for batch in batches:
        names = column_names(batch.schema.names)
        columns = [_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield Record(number, dict(zip(names, values, strict=True)), raw=str(values)[:200])
            number += 1


def _values(column: "pa.Array") -> list[Any]:
    """The values of a column; text that is not valid UTF-8 is decoded as far as possible."""
    import pyarrow as pa

    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    try:
        return cast(list[Any], column.to_pylist())
    except UnicodeDecodeError:
        if not pa.types.is_string(column.type):
            raise
        return [
            value if value is None else value.decode("utf-8", "replace")
            for value in column.view(pa.binary()).to_pylist()
        ]


def lines_of(pieces: Iterator[str]) -> Iterator[str]:
    """The lines of a text, with their line ends; every kind of line end is returned as a line feed.

    A line of more than FIELD_CHARACTERS characters is divided, so that memory stays bounded.
    """
    parts: list[str] = []  # of the line that has not ended yet
    held, length = "", 0
    for piece in pieces:
        text = held + piece
        held = "\r" if text.endswith("\r") else ""  # a line feed may follow in the next piece
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        first, *others = text.split("\n")
        parts.append(first)
        length += len(first)
        if others or length > FIELD_CHARACTERS:
            yield "".join(parts) + "\n"
            yield from (f"{line}\n" for line in others[:-1])
            parts = others[-1:]
            length = sum(map(len, parts))
    if any(parts):
        yield "".join(parts)


def empty_row(values: dict[str, Any]) -> bool:
    """Whether a row has no value at all."""
    return all(value is None or value == "" for value in values.values())
