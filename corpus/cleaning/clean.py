"""Clean stage: prepares the text, removes empty turns and duplicate conversations, and assigns splits.

The stage reads a table with the schema TURNS and writes one with the schema SPLIT_TURNS
(models/data/schemas.py). The stage may remove a conversation or divide it into parts, but it never adds text.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import Conversation, read_conversations
from corpus.cleaning.split import check_splits, split_conversations
from models.data.schemas import SPLIT_TURNS, SPLITS, TURNS


def count_repeated_exchanges(conversations: list[tuple[Conversation, str]]) -> int:
    """The number of exchanges (a turn and its reply) that repeat an earlier one; no exchange is removed."""
    exchanges = Counter(
        exchange for c, _ in conversations for exchange in zip(c.texts, c.texts[1:], strict=False)
    )
    return sum(count - 1 for count in exchanges.values())


def to_table(conversations: list[tuple[Conversation, str]]) -> pa.Table:
    """The turns of all conversations, each with its split, as a table with the schema SPLIT_TURNS."""
    columns: dict[str, list[Any]] = {name: [] for name in SPLIT_TURNS.names}
    for conversation, split in conversations:
        turns = zip(
            conversation.speakers, conversation.texts, conversation.roles, conversation.weights, strict=True
        )
        for turn, (speaker, text, role, weight) in enumerate(turns):
            values = (conversation.id, turn, speaker, text, conversation.group, role, weight, split)
            for name, value in zip(SPLIT_TURNS.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=SPLIT_TURNS)


def clean_turns(out: Path, config: CleanConfig, parse: Path) -> int:
    """Write turns.parquet (with the column `split`) and report.json; return the number of turns.

    Raises:
        DataRejected: a split is empty.
    """
    counts: Counter[str] = Counter()
    rows = pq.read_table(parse / "turns.parquet", schema=TURNS).to_pylist()
    conversations = list(read_conversations(rows, config, counts))
    unique = split_conversations(conversations, config, counts)
    check_splits(unique, counts, config)
    table = to_table(unique)
    pq.write_table(table, out / "turns.parquet", compression="zstd", row_group_size=1 << 16)
    sizes = Counter(split for _, split in unique)
    report: dict[str, Any] = {
        "normalisation": config.normalisation,
        "counts": dict(counts),
        "exchanges that occur more than once": count_repeated_exchanges(unique),
        "conversations": {split: sizes[split] for split in SPLITS},
        "turns": table.num_rows,
    }
    if config.redaction != "none":  # otherwise the report has the bytes that earlier releases wrote
        report["redaction"] = config.redaction
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return int(table.num_rows)
