"""Encodes conversations as training examples, and writes the examples to Parquet files for training."""

import json
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from models.data.schemas import EXAMPLES, SPLIT_TURNS, SPLITS
from models.errors import DataRejected
from models.text.chat_template import load_chat_format
from models.text.config import DIALOGUE, Dialogue, MarkupConfig
from models.text.encoding import encode_conversations
from models.text.tokenizer import load, load_spelling

ROW_GROUP = 1 << 15


class Conversation(NamedTuple):
    """A conversation of a split."""

    id: str
    group: str
    texts: list[str]
    has_loss: list[bool]
    """For each turn, whether it counts as a reply; False for a turn with weight 0, which is only context."""


def reply_positions(conversation: Conversation) -> list[int]:
    """The positions of the turns that count as replies: all but the first one and those without loss."""
    return [i for i in range(1, len(conversation.texts)) if conversation.has_loss[i]]


def read_split(turns: Path, split: str) -> Iterator[Conversation]:
    """Yield the conversations of a split, in the order of the file."""
    table = pq.read_table(turns, schema=SPLIT_TURNS, filters=[("split", "=", split)])
    columns = (table[name].to_pylist() for name in ("conversation_id", "group", "text", "weight"))
    for (conversation, group), rows in groupby(zip(*columns, strict=True), key=lambda row: row[:2]):
        texts, weights = zip(*((text, weight) for _, _, text, weight in rows), strict=True)
        yield Conversation(conversation, group, list(texts), [weight > 0 for weight in weights])


def encode_split(
    turns: Path, split: str, folder: Path, markup: MarkupConfig, *, every: int = 1
) -> Iterator[pa.RecordBatch]:
    """Encode every `every`-th conversation of a split with the tokenizer in `folder`; yield the examples."""
    vocabulary, spelling, chat_format = load(folder), load_spelling(folder), load_chat_format(folder)
    for chunk in batched(islice(read_split(turns, split), 0, None, every), ROW_GROUP):
        texts, has_loss = [each.texts for each in chunk], [each.has_loss for each in chunk]
        encoded = encode_conversations(texts, vocabulary, markup, spelling, chat_format, has_loss)
        rows = [
            {**vars(example), "conversation_id": conversation.id, "group": conversation.group, "split": split}
            for conversation, examples in zip(chunk, encoded, strict=True)
            for example in examples
        ]
        columns = {name: [row[name] for row in rows] for name in EXAMPLES.names}
        yield pa.RecordBatch.from_pydict(columns, EXAMPLES)


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
    total = 0
    for split in SPLITS:
        with pq.ParquetWriter(out / f"{split}.parquet", EXAMPLES, compression="zstd") as writer:
            for batch in encode_split(clean / "turns.parquet", split, vocabulary, config):
                writer.write_batch(batch)
                total += batch.num_rows
    report = json.loads((clean / "report.json").read_text())
    redaction = report.get("redaction", "none")
    Dialogue(normalisation=report["normalisation"], redaction=redaction, markup=config).write(out / DIALOGUE)
    if not total:
        raise DataRejected("no conversation has a reply to learn from; give a corpus with replies")
    return total
