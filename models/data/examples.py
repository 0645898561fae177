"""Encodes conversations as training examples, and writes the examples to Parquet files for training."""

import json
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.data.conversations import Conversation, read_split, split_tables
from models.data.encoded import ROW_GROUP, Encoder, encoded_row_groups
from models.data.schemas import SILENT, SPLITS, has_system
from models.errors import DataRejected
from models.shards import Shards
from models.text.config import DIALOGUE, Dialogue, MarkupConfig

log = logging.getLogger(__name__)


def encode_split(
    turns: Path, split: str, folder: Path, markup: MarkupConfig, *, every: int = 1, with_system: bool = True
) -> Iterator[pa.RecordBatch]:
    """Encode every `every`-th conversation of a split with the tokenizer in `folder`; yield the examples.

    Their schema is EXAMPLES, with the column `silent` if the conversations have system texts that are used.

    Args:
        with_system: whether system texts are used; False for a model that was trained without them.
    """
    encoder = Encoder(folder, markup, with_system and uses_system(turns, markup))
    for chunk in batched(islice(read_split(turns, split), 0, None, every), ROW_GROUP):
        yield from encoder.encode(chunk, split).examples.to_batches()


def uses_system(turns: Path, markup: MarkupConfig) -> bool:
    """Whether a conversation has a system text, and the settings use it."""
    return markup.system == "context" and has_system(turns)


def batched(items: Iterator[Conversation], size: int) -> Iterator[list[Conversation]]:
    while chunk := list(islice(items, size)):
        yield chunk


def export_examples(
    out: Path, config: MarkupConfig, clean: Path, vocabulary: Path, shards: Shards | None = None
) -> int:
    """Write the examples of each split to a Parquet file, and the settings to dialogue.json.

    Args:
        shards: where the examples of some conversations are stored, and found by a later run.

    Returns:
        The number of examples.

    Raises:
        DataRejected: no conversation has a reply.
        InputError: the chat format leaves too few tokens for the text.
    """
    total = num_silent = 0
    turns = clean / "turns.parquet"
    is_used = uses_system(turns, config)
    encoder = Encoder(vocabulary, config, is_used)
    for split in SPLITS:
        with pq.ParquetWriter(out / f"{split}.parquet", encoder.schema, compression="zstd") as writer:
            for table in encoded_row_groups(split_tables(turns, split), split, encoder, shards):
                writer.write_table(table)
                total += table.num_rows
                num_silent += (pc.sum(pc.greater(table[SILENT.name], 0)).as_py() or 0) if is_used else 0
    if is_used:
        log.info(
            "export: %s of %s examples begin with a system text; a text of more than %d tokens is left out",
            f"{num_silent:,}",
            f"{total:,}",
            config.system_tokens,
        )
    report = json.loads((clean / "report.json").read_text())
    redaction = report.get("redaction", "none")
    dialogue = Dialogue(
        normalisation=report["normalisation"], redaction=redaction, markup=config, has_system=num_silent > 0
    )
    dialogue.write(out / DIALOGUE)
    if not total:
        raise DataRejected("no conversation has a reply to learn from; give a corpus with replies")
    return total
