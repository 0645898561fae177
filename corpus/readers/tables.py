"""Tables: reads the rows of CSV, TSV, Parquet and Arrow files as objects, one after another."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.readers.encodings import LineReader
from corpus.readers.json_values import Malformed, Record
from corpus.readers.opening import DAMAGE_ERRORS

if TYPE_CHECKING:  # importing pyarrow takes a third of a second, and a text file needs none of it
    import pyarrow as pa

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
DELIMITERS = ",\t;|"
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


def csv_header(line: str) -> tuple[str, list[str]]:
    """The delimiter and the column names of a table whose first line this is; a single name if it is none."""
    delimiter = max(DELIMITERS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        names = [line]
    return delimiter, [column_name(name) for name in names]


def column_name(name: str) -> str:
    """A column's name in the form in which names are compared: `Conversation ID` is `conversation_id`."""
    return "_".join(name.strip().lower().split())


def csv_rows(path: Path, reader: LineReader) -> Iterator[Record | Malformed]:
    """Yield the rows of a CSV or TSV file whose first line has the column names."""
    csv.field_size_limit(FIELD_CHARACTERS)
    lines = lines_of(reader.pieces(path))
    delimiter, names = csv_header(next(lines, ""))
    rows = csv.reader(lines, delimiter=delimiter)
    number = 2
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(number, str(error), "", ends_file=True)
            return
        raw = delimiter.join(row)
        if len(row) == len(names):
            yield Record(number, dict(zip(names, row, strict=True)), raw=raw)
        elif any(field.strip() for field in row):
            yield Malformed(number, f"{len(row)} fields, not {len(names)}", raw)
        number = rows.line_num + 2


def _rows(batches: "Iterator[pa.RecordBatch]") -> Iterator[Record]:
    number = 1
    for batch in batches:
        names = [column_name(name) for name in batch.schema.names]
        columns = [_decoded(column).to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield Record(number, dict(zip(names, values, strict=True)), raw=str(values)[:200])
            number += 1


def _decoded(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def lines_of(pieces: Iterator[str]) -> Iterator[str]:
    """The lines of a text, with their line ends; every kind of line end is returned as a line feed."""
    rest = ""
    for piece in pieces:
        text = rest + piece
        held = "\r" if text.endswith("\r") else ""  # a line feed may follow in the next piece
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        rest += held
        yield from (f"{line}\n" for line in lines)
    if rest:
        yield rest.removesuffix("\r")


def empty_row(values: dict[str, Any]) -> bool:
    """Whether a row has no value at all."""
    return all(value is None or value == "" for value in values.values())
