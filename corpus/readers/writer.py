"""Writer: converts conversations to tables of turns, and writes these as one table with the schema TURNS."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of, text_array
from corpus.readers.turns import Conversation, Turn, group_of, system_of
from models.data.schemas import SYSTEM, TURNS

ROW_GROUP = 1 << 16
ROW_GROUP_CHARACTERS = 1 << 26
TABLE_ROWS = 1 << 13  # a row group consists of several tables
WITH_SYSTEM = TURNS.append(SYSTEM)

Row = tuple[str, int, str, str, str, str, float]
"""The values of a row, in the order of the schema TURNS."""


class TurnsWriter:
    """A context manager that writes a Parquet file; at most ROW_GROUP rows or ROW_GROUP_CHARACTERS
    characters, and one table more, are in memory at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, TURNS, compression="zstd")
        self._has_system = False
        """Whether a conversation had a system text. Only then does the file have the column `system`."""
        self._tables: list[pa.Table] = []
        self._characters = 0
        self._ids: dict[str, int] = {}  # the largest number appended to each id
        self.rows = 0
        """The number of rows that have been written."""

    def __enter__(self) -> "TurnsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, turns: pa.Table, prefix: str = "") -> None:
        """Write whole conversations.

        Args:
            turns: a table with the schema WITH_SYSTEM.
            prefix: what precedes the id of each conversation. If an id is already used, a number is appended.
        """
        if not turns.num_rows:
            return
        turns = turns.combine_chunks()
        starts = np.flatnonzero(numbers_of(_column(turns, "turn")) == 0)
        turns = self._with_new_ids(turns, starts, prefix)
        if not self._has_system and pc.any(pc.not_equal(turns[SYSTEM.name], "")).as_py():
            self._add_system()
        lengths = pc.add(pc.utf8_length(_column(turns, "text")), pc.utf8_length(_column(turns, SYSTEM.name)))
        characters = np.cumsum(np.add.reduceat(numbers_of(lengths), starts, dtype=np.int64))
        ends = np.append(starts[1:], turns.num_rows)
        # A row group ends with the first conversation that reaches one of the limits.
        first, first_row = 0, 0
        while first < len(ends):
            rows = ends[first:] - first_row + sum(table.num_rows for table in self._tables)
            texts = characters[first:] - (characters[first - 1] if first else 0) + self._characters
            is_full = (rows >= ROW_GROUP) | (texts >= ROW_GROUP_CHARACTERS)
            last = int(is_full.argmax()) if is_full.any() else len(rows) - 1
            self._tables.append(turns.slice(first_row, int(ends[first + last]) - first_row))
            self._characters = int(texts[last])
            if is_full[last]:
                self._flush()
            first_row, first = int(ends[first + last]), first + last + 1
        self.rows += turns.num_rows

    def _with_new_ids(self, turns: pa.Table, starts: NDArray[np.int64], prefix: str) -> pa.Table:
        ids = _column(turns, "conversation_id").take(number_array(starts)).to_pylist()
        names = [self._new_id(f"{prefix}{name}") for name in ids]
        if names == ids:
            return turns
        sizes = np.diff(np.append(starts, turns.num_rows))
        column = text_array(names).take(number_array(np.repeat(np.arange(len(names)), sizes)))
        return turns.set_column(0, TURNS.field(0), column)

    def _new_id(self, conversation: str) -> str:
        name, number = conversation, 1
        while name in self._ids:
            number = max(number, self._ids[conversation]) + 1
            name = f"{conversation}-{number}"
        self._ids[conversation] = number
        self._ids.setdefault(name, 1)
        return name

    def _flush(self) -> None:
        schema = WITH_SYSTEM if self._has_system else TURNS
        tables = [table.select(schema.names) for table in self._tables]
        self._writer.write_table(pa.concat_tables([schema.empty_table(), *tables]).combine_chunks())
        self._tables, self._characters = [], 0

    def _add_system(self) -> None:
        """Begin the file again with the column `system`, and copy the rows that have been written so far."""
        self._writer.close()
        before = self._path.with_suffix(".before")
        self._path.rename(before)
        self._has_system = True
        self._writer = pq.ParquetWriter(self._path, WITH_SYSTEM, compression="zstd")
        with pq.ParquetFile(before) as file:
            for i in range(file.num_row_groups):
                table = file.read_row_group(i)
                self._writer.write_table(table.append_column(SYSTEM, text_array([""] * table.num_rows)))
        before.unlink()


def tables_of(conversations: Iterable[tuple[Conversation, Sequence[Turn]]]) -> Iterator[pa.Table]:
    """Yield the turns of conversations in tables with the schema WITH_SYSTEM, each of whole conversations."""
    rows: list[Row] = []
    systems: list[str] = []
    characters = 0
    for conversation, turns in conversations:
        system = system_of(conversation)
        rows += rows_of(conversation.id, turns, group_of(conversation, turns))
        systems += [system, *[""] * (len(turns) - 1)]
        characters += len(system) + sum(len(turn.text) for turn in turns)
        if len(rows) >= TABLE_ROWS or characters >= ROW_GROUP_CHARACTERS:
            yield table_of(rows).append_column(SYSTEM, text_array(systems))
            rows, systems, characters = [], [], 0
    if rows:
        yield table_of(rows).append_column(SYSTEM, text_array(systems))


def rows_of(conversation: str, turns: Sequence[Turn], group: str) -> Iterator[Row]:
    """Yield the rows of a conversation, for `table_of`."""
    for position, turn in enumerate(turns):
        yield conversation, position, turn.speaker, turn.text, group, turn.role, turn.weight


def table_of(rows: Sequence[Row]) -> pa.Table:
    """A table with the schema TURNS."""
    columns = list(zip(*rows, strict=True)) or [()] * len(TURNS)
    arrays = [
        text_array(column) if pa.types.is_string(field.type) else number_array(column, field.type)
        for column, field in zip(columns, TURNS, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=TURNS)


def _column(turns: pa.Table, name: str) -> pa.Array:
    return turns[name].combine_chunks()
