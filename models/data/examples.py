"""Encodes conversations as training examples, and writes the examples to Parquet files for training."""

import json
import logging
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.data.schemas import EXAMPLES, SILENT, SPLIT_TURNS, SPLITS, SYSTEM, has_system
from models.errors import DataRejected
from models.text.chat_template import load_chat_format
from models.text.config import DIALOGUE, Dialogue, MarkupConfig
from models.text.encoding import encode_conversations
from models.text.tokenizer import load, load_spelling

log = logging.getLogger(__name__)

ROW_GROUP = 1 << 15


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
    table = pq.read_table(turns, schema=schema, filters=[("split", "=", split)])
    columns = [table[name].to_pylist() for name in ("conversation_id", "group", "text", "weight")]
    columns.append(table[SYSTEM.name].to_pylist() if SYSTEM in schema else [""] * table.num_rows)
    for (conversation, group), rows in groupby(zip(*columns, strict=True), key=lambda row: row[:2]):
        texts, weights, systems = zip(*(row[2:] for row in rows), strict=True)
        yield Conversation(conversation, group, list(texts), [weight > 0 for weight in weights], systems[0])


def encode_split(
    turns: Path, split: str, folder: Path, markup: MarkupConfig, *, every: int = 1, with_system: bool = True
) -> Iterator[pa.RecordBatch]:
    """Encode every `every`-th conversation of a split with the tokenizer in `folder`; yield the examples.

    Their schema is EXAMPLES, with the column `silent` if the conversations have system texts that are used.

    Args:
        with_system: whether system texts are used; False for a model that was trained without them.
    """
    schema = EXAMPLES.append(SILENT) if with_system and uses_system(turns, markup) else EXAMPLES
    vocabulary, spelling, chat_format = load(folder), load_spelling(folder), load_chat_format(folder)
    for chunk in batched(islice(read_split(turns, split), 0, None, every), ROW_GROUP):
        texts, has_loss = [each.texts for each in chunk], [each.has_loss for each in chunk]
        systems = [each.system for each in chunk] if SILENT in schema else None
        encoded = encode_conversations(texts, vocabulary, markup, spelling, chat_format, has_loss, systems)
        rows = [
            {**vars(example), "conversation_id": conversation.id, "group": conversation.group, "split": split}
            for conversation, examples in zip(chunk, encoded, strict=True)
            for example in examples
        ]
        columns = {name: [row[name] for row in rows] for name in schema.names}
        yield pa.RecordBatch.from_pydict(columns, schema)


def uses_system(turns: Path, markup: MarkupConfig) -> bool:
    """Whether a conversation has a system text, and the settings use it."""
    return markup.system == "context" and has_system(turns)


def batched(items: Iterator[Conversation], size: int) -> Iterator[list[Conversation]]:
    while chunk := list(islice(items, size)):
        yield chunk


def export_examples(out: Path, config: MarkupConfig, clean: Path, vocabulary: Path) -> int:
    """Write the examples of each split to a Parquet file, and the settings to dialogue.json.

    Returns:
        The number of examples.

    Raises:
        DataRejected: no conversation has a reply.
        InputError: the chat format leaves too few tokens for the text.
    """
    total = num_silent = 0
    turns = clean / "turns.parquet"
    is_used = uses_system(turns, config)
    schema = EXAMPLES.append(SILENT) if is_used else EXAMPLES
    for split in SPLITS:
        with pq.ParquetWriter(out / f"{split}.parquet", schema, compression="zstd") as writer:
            for batch in encode_split(turns, split, vocabulary, config):
                writer.write_batch(batch)
                total += batch.num_rows
                num_silent += pc.sum(pc.greater(batch[SILENT.name], 0)).as_py() if is_used else 0
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
