"""Writer: writes conversations as a table with the schema TURNS, a part at a time."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.readers.turns import Turn
from models.data.schemas import TURNS

ROW_GROUP = 1 << 16


class TurnsWriter:
    """A context manager that writes a Parquet file; at most ROW_GROUP rows are in memory at once."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, TURNS, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
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

    def write(self, conversation: str, turns: Sequence[Turn], group: str) -> None:
        """Write a conversation. If its id is already used, a number is appended to the id."""
        name, number = conversation, 1
        while name in self._ids:
            number = max(number, self._ids[conversation]) + 1
            name = f"{conversation}-{number}"
        self._ids[conversation] = number
        self._ids.setdefault(name, 1)
        for position, turn in enumerate(turns):
            row = (name, position, turn.speaker, turn.text, group, turn.role, turn.weight)
            self._rows.append(tuple(_encodable(value) for value in row))
        self.rows += len(turns)
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(TURNS)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, TURNS, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=TURNS))
        self._rows = []


def _encodable(value: Any) -> Any:
    """A text without lone surrogates, which UTF-8 cannot encode."""
    return (
        value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value
    )
