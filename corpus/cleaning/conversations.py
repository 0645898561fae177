"""Conversations: cleans whole conversations in columns, and divides them where a turn is empty."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of, text_array
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.texts import prepare_speakers, prepare_system_texts, prepare_texts
from models.data.schemas import SYSTEM, TURNS

CONVERSATIONS_READ, TURNS_READ = "conversations read", "turns read"
EMPTY = "turns empty, or empty once cleaned"
ALONE = "turns with no neighbour left"


class Parts(NamedTuple):
    """Cleaned conversations, or parts of conversations, of at least two turns each, one after another."""

    turns: pa.Table
    """Their turns, with the schema TURNS."""
    starts: NDArray[np.int64]
    """The row of the first turn of each part, and at the end the number of rows."""
    units: list[str]
    """For each part, the name of what is never divided between splits: its group, or its conversation with
    all of its parts."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of turns of each part."""
        return np.diff(self.starts)


def read_conversations(
    turns: Path, columns: Sequence[str] = (*TURNS.names, SYSTEM.name)
) -> Iterator[pa.Table]:
    """Yield the turns of a Parquet file, a row group at a time, without dividing a conversation.

    Args:
        columns: those that are read; `conversation_id` must be one of them. The column `system` is left out
            if the file does not have it.
    """
    with pq.ParquetFile(turns) as file:
        schema = pa.schema([field for field in TURNS.append(SYSTEM) if field.name in columns])
        if SYSTEM.name not in file.schema_arrow.names and SYSTEM.name in schema.names:
            schema = schema.remove(schema.get_field_index(SYSTEM.name))
        rest = schema.empty_table()
        for i in range(file.num_row_groups):
            rest = pa.concat_tables([rest, file.read_row_group(i, columns=schema.names).cast(schema)])
            last = first_rows(rest)[-1:]
            if last.any():
                yield rest.slice(0, last[0])
                rest = rest.slice(last[0])
    if rest:
        yield rest


def clean_conversations(turns: pa.Table, config: CleanConfig, counts: Counter[str]) -> Parts:
    """Clean whole conversations: the text is normalised, and personal data in it is replaced.

    A turn that is empty afterwards is removed, and its conversation is divided there. The first part has the
    id of the conversation, and later parts have a number after it.

    Args:
        turns: the rows of conversations in their order, with the schema TURNS.
        counts: what is read and removed is added to these counts.
    """
    turns = turns.combine_chunks()
    schema = turns.schema
    ids = _column(turns, "conversation_id")
    is_first = _is_first(ids)
    counts[CONVERSATIONS_READ] += int(is_first.sum())
    counts[TURNS_READ] += turns.num_rows
    texts, text_numbers = prepare_texts(_column(turns, "text"), config, counts)
    is_empty = np.array([not text for text in texts], bool)[text_numbers]
    if is_empty.any():
        counts[EMPTY] += int(is_empty.sum())
    columns, first_rows, sizes, rows = _divided(turns, is_first, is_empty, counts)
    columns["text"] = text_array(texts).take(number_array(text_numbers[rows]))
    columns["speaker"] = prepare_speakers(columns["speaker"], config)
    if SYSTEM.name in columns:
        columns[SYSTEM.name] = prepare_system_texts(columns[SYSTEM.name], config, counts)
    undivided = _column(turns, "group") if config.split_by == "group" else ids
    units = undivided.take(number_array(first_rows)).to_pylist()
    return Parts(pa.table(columns, schema=schema), np.concatenate([[0], np.cumsum(sizes)]), units)


def divide_conversations(
    turns: pa.Table, is_removed: NDArray[np.bool_], is_divided: NDArray[np.bool_], counts: Counter[str]
) -> pa.Table:
    """Remove turns of whole conversations, and divide the conversations there and before other turns.

    The first part has the id of the conversation, and later parts have `~` and a number after it.

    Args:
        turns: a table that has the columns of TURNS, and perhaps others.
    """
    is_first = _is_first(_column(turns, "conversation_id"))
    columns, *_ = _divided(turns, is_first, is_removed, counts, is_divided=is_divided, mark="~")
    return pa.table(columns, schema=turns.schema)


def _divided(
    turns: pa.Table,
    is_first: NDArray[np.bool_],
    is_removed: NDArray[np.bool_],
    counts: Counter[str],
    *,
    is_divided: NDArray[np.bool_] | None = None,
    mark: str = "/",
) -> tuple[dict[str, Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The columns of all parts, the first row and the number of turns of each part, and the rows of all."""
    begins = is_first | np.concatenate([[True], is_removed[:-1]])
    begins = ~is_removed & (begins if is_divided is None else begins | is_divided)
    filled_rows = np.flatnonzero(~is_removed)
    part_of_row = (np.cumsum(begins) - 1)[filled_rows]
    sizes = np.bincount(part_of_row, minlength=int(begins.sum()))
    counts[ALONE] += int((sizes == 1).sum())
    is_part = sizes > 1
    first_rows, rows, sizes = (
        np.flatnonzero(begins)[is_part],
        filled_rows[is_part[part_of_row]],
        sizes[is_part],
    )
    columns: dict[str, Any] = {
        name: _column(turns, name).take(number_array(rows)) for name in turns.column_names
    }
    columns["conversation_id"] = _part_ids(
        _column(turns, "conversation_id"), is_first, first_rows, mark
    ).take(number_array(np.repeat(np.arange(len(sizes)), sizes)))
    starts = np.cumsum(sizes) - sizes
    if SYSTEM.name in columns:
        columns[SYSTEM.name] = _systems_of_parts(turns, is_first, first_rows, starts, len(rows))
    columns["turn"] = number_array(np.arange(len(rows)) - np.repeat(starts, sizes), pa.int32())
    return columns, first_rows, sizes, rows


def _systems_of_parts(
    turns: pa.Table,
    is_first: NDArray[np.bool_],
    first_rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    num_rows: int,
) -> pa.Array:
    """The column `system`: each part has the system text of its conversation, in the row of its first turn.

    Args:
        first_rows: the row that each part begins with in `turns`.
        starts: the row that each part begins with in the new column, which has `num_rows` rows.
    """
    conversations = np.cumsum(is_first)[first_rows] - 1
    of_parts = _column(turns, SYSTEM.name).take(number_array(np.flatnonzero(is_first)[conversations]))
    texts = pa.concat_arrays([text_array([""]), of_parts])
    numbers = np.zeros(num_rows, np.int64)
    numbers[starts] = 1 + np.arange(len(starts))
    return texts.take(number_array(numbers))


def _part_ids(
    ids: pa.Array, is_first: NDArray[np.bool_], first_rows: NDArray[np.int64], mark: str
) -> pa.Array:
    conversations = np.cumsum(is_first)[first_rows]
    numbers = np.arange(len(first_rows)) - np.searchsorted(conversations, conversations)
    names = ids.take(number_array(first_rows))
    if not numbers.any():
        return names
    numbered = zip(names.to_pylist(), numbers.tolist(), strict=True)
    return text_array([f"{name}{mark}{number + 1}" if number else name for name, number in numbered])


def first_rows(turns: pa.Table) -> NDArray[np.int64]:
    """The row of the first turn of each conversation."""
    return np.flatnonzero(_is_first(_column(turns, "conversation_id")))


def _is_first(ids: pa.Array) -> NDArray[np.bool_]:
    """Whether each row is the first one of its conversation."""
    is_first = np.ones(len(ids), bool)
    if len(ids) > 1:
        is_first[1:] = numbers_of(pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)))
    return is_first


def _column(turns: pa.Table, name: str) -> pa.Array:
    return turns[name].combine_chunks()
