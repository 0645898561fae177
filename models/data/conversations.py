"""Conversations: reads those of a split from the table of turns."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.data.schemas import SPLIT_TURNS, SYSTEM, has_system


class Conversation(NamedTuple):
    """A conversation of a split."""

    id: str
    group: str
    texts: list[str]
    has_loss: list[bool]
    """For each turn, whether it counts as a reply; False for a turn with weight 0, which is only context."""
    system: str = ""
    """The system text, or "" if there is none."""


def reply_positions(conversation: Conversation) -> list[int]:
    """The positions of the turns that count as replies: all but the first one and those without loss."""
    return [i for i in range(1, len(conversation.texts)) if conversation.has_loss[i]]


def read_split(turns: Path, split: str) -> Iterator[Conversation]:
    """Yield the conversations of a split, in the order of the file."""
    schema = SPLIT_TURNS.append(SYSTEM) if has_system(turns) else SPLIT_TURNS
    return conversations_of(pq.read_table(turns, schema=schema, filters=[("split", "=", split)]))


def split_tables(turns: Path, split: str) -> Iterator[pa.Table]:
    """Yield the turns of a split, a row group at a time."""
    with pq.ParquetFile(turns) as file:
        for i in range(file.num_row_groups):
            table = file.read_row_group(i)
            yield table.filter(pc.equal(table["split"], split)).drop_columns(["split", "speaker", "role"])


def conversations_of(table: pa.Table) -> Iterator[Conversation]:
    """Yield the conversations in a table with the columns of SPLIT_TURNS, and perhaps `system`."""
    columns = [table[name].to_pylist() for name in ("conversation_id", "group", "text", "weight")]
    has_systems = SYSTEM.name in table.column_names
    columns.append(table[SYSTEM.name].to_pylist() if has_systems else [""] * table.num_rows)
    for (conversation, group), rows in groupby(zip(*columns, strict=True), key=lambda row: row[:2]):
        texts, weights, systems = zip(*(row[2:] for row in rows), strict=True)
        yield Conversation(conversation, group, list(texts), [weight > 0 for weight in weights], systems[0])
