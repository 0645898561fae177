"""Chunks: divides a table of turns at conversations that depend on their ids alone.

If conversations are added, removed or changed, only the chunks that contain them are other ones, whatever
their number. The same conversations in the same order are always divided in the same way.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CONVERSATIONS = 4096
"""The mean number of conversations in a chunk: one of so many ids begins a new one."""
MOST_ROWS = 1 << 17
"""A chunk with more rows may end at any conversation."""


def chunks(tables: Iterable[pa.Table], conversations: int = CONVERSATIONS) -> Iterator[pa.Table]:
    """Yield the rows of the tables, which follow each other, in chunks of whole conversations.

    Args:
        tables: they have the columns `conversation_id` and `turn`; the first turn of each conversation is 0.
    """
    waiting: list[pa.Table] = []
    num_waiting = 0
    for table in tables:
        starts = _starts_of_chunks(table, conversations)
        for first, end in pairwise(sorted({0, *starts, table.num_rows})):
            if waiting and (first in starts or (num_waiting > MOST_ROWS and _is_start(table, first))):
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, num_waiting = [], 0
            waiting.append(table.slice(first, end - first))
            num_waiting += end - first
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def digest_of(table: pa.Table) -> str:
    """A digest of the schema and the values of a table of texts and numbers without nulls.

    Arrow's own formats also contain how the values are divided in memory.
    """
    digest = hashlib.sha256(f"{table.num_rows} {table.schema}".encode())
    for column in table.columns:
        array = column.combine_chunks()
        values, first, end = array.buffers()[-1], array.offset, array.offset + len(array)
        if pa.types.is_string(array.type):
            edges = (
                np.frombuffer(array.buffers()[1], np.int32)[first : end + 1] if len(array) else np.zeros(1)
            )
            digest.update(np.diff(edges).tobytes())
            first, end = int(edges[0]), int(edges[-1])
        else:
            first, end = first * array.type.byte_width, end * array.type.byte_width
        digest.update(memoryview(values or b"")[first:end])
    return digest.hexdigest()


def _starts_of_chunks(table: pa.Table, conversations: int) -> set[int]:
    if not table.num_rows:
        return set()
    rows = pc.indices_nonzero(pc.equal(table["turn"].combine_chunks(), 0))
    ids = table["conversation_id"].take(rows).cast(pa.binary()).to_pylist()
    return {
        row for row, name in zip(rows.to_pylist(), ids, strict=True) if zlib.crc32(name) % conversations == 0
    }


def _is_start(table: pa.Table, row: int) -> bool:
    return bool(table["turn"][row].as_py() == 0)
