"""Writer: writes conversations as a table with the schema TURNS, a part at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.arrays import number_array, text_array
from corpus.readers.turns import Turn
from models.data.schemas import SYSTEM, TURNS

ROW_GROUP = 1 << 16
ROW_GROUP_CHARACTERS = 1 << 26

Row = tuple[str, int, str, str, str, str, float]
"""The values of a row, in the order of the schema TURNS."""


class TurnsWriter:
    """A context manager that writes a Parquet file; at most ROW_GROUP rows or ROW_GROUP_CHARACTERS
    characters, and one conversation more, are in memory at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, TURNS, compression="zstd")
        self._has_system = False
        """Whether a conversation had a system text. Only then does the file have the column `system`."""
        self._rows: list[Row] = []
        self._systems: list[str] = []
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

    def write(self, conversation: str, turns: Sequence[Turn], group: str, system: str = "") -> None:
        """Write a conversation. If its id is already used, a number is appended to the id."""
        name, number = conversation, 1
        while name in self._ids:
            number = max(number, self._ids[conversation]) + 1
            name = f"{conversation}-{number}"
        self._ids[conversation] = number
        self._ids.setdefault(name, 1)
        if system and not self._has_system:
            self._add_system()
        self._rows += rows_of(name, turns, group)
        self._systems += [system, *[""] * (len(turns) - 1)]
        self.rows += len(turns)
        self._characters += len(system) + sum(len(turn.text) for turn in turns)
        if len(self._rows) >= ROW_GROUP or self._characters >= ROW_GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        table = table_of(self._rows)
        if self._has_system:
            table = table.append_column(SYSTEM, text_array(self._systems))
        self._writer.write_table(table)
        self._rows, self._systems, self._characters = [], [], 0

    def _add_system(self) -> None:
        """Begin the file again with the column `system`, and copy the rows that have been written so far."""
        self._writer.close()
        before = self._path.with_suffix(".before")
        self._path.rename(before)
        self._has_system = True
        self._writer = pq.ParquetWriter(self._path, TURNS.append(SYSTEM), compression="zstd")
        with pq.ParquetFile(before) as file:
            for i in range(file.num_row_groups):
                table = file.read_row_group(i)
                self._writer.write_table(table.append_column(SYSTEM, text_array([""] * table.num_rows)))
        before.unlink()


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
