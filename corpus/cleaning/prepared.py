"""Prepared chunks: what the stage `clean` computes of conversations alone, without regard to other ones.

This is stored as a shard of each chunk of conversations (models/data/chunks.py), so that a later run computes
only the chunks with new or changed conversations.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from corpus.arrays import number_array, numbers_of, text_array
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import Parts, clean_conversations
from corpus.cleaning.copies import Digests, part_digests, text_digests
from models.data.chunks import chunks, digest_of
from models.shards import Shards

FEWEST_ROWS = 1 << 10  # to prepare fewer turns costs less than a shard
TURNS_FILE, PARTS_FILE, COUNTS_FILE = "turns.arrow", "parts.arrow", "counts.json"
DIGEST = ("digest_0", "digest_1")


class Prepared(NamedTuple):
    """A chunk of cleaned conversations, or parts of conversations."""

    parts: Parts
    texts: Digests
    """A hash of the text of each turn."""
    digests: Digests
    """A hash of the texts of each part."""
    counts: Counter[str]
    """What was read and removed."""


def prepared_chunks(
    tables: Iterable[pa.Table], config: CleanConfig, shards: Shards | None
) -> Iterator[Prepared]:
    """Yield the conversations of the tables as the stage `clean` prepares them, in their order."""
    decides = {"normalisation": config.normalisation, "redaction": config.redaction, "unit": config.split_by}
    for turns in chunks(tables):
        if shards is None or turns.num_rows < FEWEST_ROWS:
            yield prepare(turns, config)
        else:
            identity = {"turns": digest_of(turns), **decides}
            yield read_shard(shards(write_shard, identity, turns=turns, config=config))


def prepare(turns: pa.Table, config: CleanConfig) -> Prepared:
    """Clean conversations, and hash the result."""
    counts = Counter[str]()
    parts = clean_conversations(turns, config, counts)
    texts = text_digests(parts.turns)
    return Prepared(parts, texts, part_digests(texts, parts.starts), counts)


def write_shard(out: Path, *, turns: pa.Table, config: CleanConfig) -> None:
    """Prepare conversations, and write them into the folder `out` for `read_shard`."""
    parts, texts, digests, counts = prepare(turns, config)
    _write(out / TURNS_FILE, _with_digests(parts.turns, texts))
    columns = {"size": number_array(parts.sizes), "unit": text_array(parts.units)}
    _write(out / PARTS_FILE, _with_digests(pa.table(columns), digests))
    (out / COUNTS_FILE).write_text(json.dumps(counts))


def read_shard(folder: Path) -> Prepared:
    turns, texts = _without_digests(_read(folder / TURNS_FILE))
    parts, digests = _without_digests(_read(folder / PARTS_FILE))
    starts = np.concatenate([[0], np.cumsum(numbers_of(parts["size"].combine_chunks()))])
    counts = Counter[str](json.loads((folder / COUNTS_FILE).read_text()))
    return Prepared(Parts(turns, starts, parts["unit"].to_pylist()), texts, digests, counts)


def _with_digests(table: pa.Table, digests: Digests) -> pa.Table:
    for name, column in zip(DIGEST, digests.T, strict=True):
        table = table.append_column(name, number_array(np.ascontiguousarray(column).view(np.int64)))
    return table


def _without_digests(table: pa.Table) -> tuple[pa.Table, Digests]:
    columns = [numbers_of(table[name].combine_chunks()).view(np.uint64) for name in DIGEST]
    return table.drop_columns(list(DIGEST)), np.stack(columns, axis=1)


def _write(path: Path, table: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all().combine_chunks()
