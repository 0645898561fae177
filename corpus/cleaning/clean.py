"""Clean stage: prepares the text, removes empty turns and duplicate conversations, and assigns splits.

The stage reads a table with the schema TURNS and writes one with the schema SPLIT_TURNS
(models/data/schemas.py). The stage may remove a conversation or divide it into parts, but it never adds text.

A first pass cleans the conversations (or finds them in shards), writes them to a temporary file and collects
hashes of them. When all are known, a second pass copies those that stay. Only some ten thousand turns are in
memory at once.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpus.arrays import number_array, text_array
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import (
    ALONE,
    CONVERSATIONS_READ,
    EMPTY,
    TURNS_READ,
    first_rows,
    read_conversations,
)
from corpus.cleaning.copies import Copies
from corpus.cleaning.forgotten import FORGOTTEN, NOTHING, Forgotten
from corpus.cleaning.leaks import Turns
from corpus.cleaning.prepared import Prepared, prepared_chunks
from corpus.cleaning.removals import NEAR_COPIES, Removals, no_replies_left
from corpus.cleaning.shares import OUTSIDE, Shares
from corpus.cleaning.split import check_splits, position_of, splits_at
from corpus.cleaning.texts import WITHOUT_LETTERS
from corpus.contract.figures import write_figures
from models.data.schemas import SPLIT_TURNS, SPLITS, SYSTEM, TURNS, has_system
from models.data.turn_balance import BALANCE, TurnBalance
from models.shards import Shards

log = logging.getLogger(__name__)

ROW_GROUP = 1 << 16


@dataclass
class Tally:
    """How many turns are read, removed (by cause) and added as copies; what `counts` does not say."""

    read: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    copied: int = 0


class Cleaned(NamedTuple):
    """What is known of all conversations after the first pass, in their order."""

    copies: Copies
    shares: Shares
    positions: NDArray[np.uint64]
    """Its position among the splits."""


def clean_turns(
    out: Path,
    config: CleanConfig,
    parse: Path,
    forgotten: Forgotten = NOTHING,
    shards: Shards | None = None,
) -> int:
    """Write turns.parquet (with the column `split`), leaks.parquet, report.json and logs/turns.json.

    Args:
        shards: where what has been computed of conversations alone is stored, and found by a later run.

    Returns:
        The number of turns.

    Raises:
        DataRejected: a split is empty, or the weight of a source leaves nothing of it.
    """
    counts, tally = Counter[str](), Tally()
    file = out / "cleaned.arrow"
    schema = TURNS.append(SYSTEM) if has_system(parse / "turns.parquet") else TURNS
    tables = _remembered(parse / "turns.parquet", forgotten, counts, tally)
    shares = Shares(config)
    chunks = prepared_chunks(_used(tables, shares, tally), config, shards)
    cleaned = _clean(chunks, shares, file, config, counts, schema)
    cleaned.shares.check(counts)
    stays, splits = cleaned.copies.unique(counts, tally.removed), splits_at(cleaned.positions, config)
    check_splits(splits[stays], cleaned.positions[stays], counts, config)
    copies = cleaned.shares.copies(stays, splits == SPLITS.index("train"), counts)
    found = _found_turns(file, cleaned.copies, np.where(stays, splits, -1))
    removals = Removals(found, counts)
    removals.write(out / "leaks.parquet")
    written = Counter[str]()
    tables = _with_splits(found, removals, copies, counts, tally)
    turns = _write(out / "turns.parquet", tables, written, schema.append(SPLIT_TURNS.field("split")))
    file.unlink()
    if not written["train"]:
        raise no_replies_left("train")
    repeated = cleaned.copies.repeated_exchanges(stays)
    _write_report(out / "report.json", config, counts, repeated, written, turns)
    write_figures(out, config)
    _write_balance(out, tally, counts, turns)
    return turns


def _write_report(
    path: Path,
    config: CleanConfig,
    counts: Counter[str],
    repeated_exchanges: int,
    conversations: Counter[str],
    turns: int,
) -> None:
    report: dict[str, Any] = {
        "normalisation": config.normalisation,
        "counts": dict(counts),
        "exchanges that occur more than once": repeated_exchanges,
        "conversations": {split: conversations[split] for split in SPLITS},
        "turns": turns,
    }
    if config.redaction != "none":  # otherwise the report has the bytes that earlier releases wrote
        report["redaction"] = config.redaction
    path.write_text(json.dumps(report, indent=2) + "\n")


def _found_turns(file: Path, copies: Copies, splits: NDArray[np.int64]) -> Turns:
    """
    Args:
        splits: the position of each conversation's split in SPLITS; -1 if the conversation is removed.
    """
    return Turns(
        file, splits.astype(np.int8), sizes=copies.sizes, keys=copies.keys, exchanges=copies.exchanges
    )


def _write_balance(out: Path, tally: Tally, counts: Counter[str], written: int) -> None:
    """Log what has become of all turns, and write it to BALANCE. The folder logs/ exists."""
    tally.removed.update(
        {
            EMPTY.removeprefix("turns "): counts[EMPTY],
            ALONE.removeprefix("turns "): counts[ALONE],
            "near copies of scored replies": counts[NEAR_COPIES],
        }
    )
    balance = TurnBalance(
        turns_read=tally.read,
        turns_written=written,
        turns_copied=tally.copied,
        removed={cause: count for cause, count in tally.removed.items() if count},
    )
    balance.write(out / BALANCE)
    log.info("clean: %s", balance.text())


def _remembered(turns: Path, forgotten: Forgotten, counts: Counter[str], tally: Tally) -> Iterator[pa.Table]:
    """Yield the conversations that are not forgotten, and count the others."""
    for table in read_conversations(turns):
        rest = forgotten.without(table)
        if rest is not table:
            counts[FORGOTTEN] += len(first_rows(table)) - len(first_rows(rest))
        tally.read += table.num_rows
        tally.removed[f"in {FORGOTTEN}"] += table.num_rows - rest.num_rows
        if rest.num_rows:
            yield rest


def _used(tables: Iterator[pa.Table], shares: Shares, tally: Tally) -> Iterator[pa.Table]:
    """Yield the conversations that are in the shares of their sources, and count the others."""
    for table in tables:
        used = shares.used(table)
        tally.removed[f"in {OUTSIDE}"] += table.num_rows - used.num_rows
        yield used


def _clean(
    chunks: Iterator[Prepared],
    shares: Shares,
    cleaned: Path,
    config: CleanConfig,
    counts: Counter[str],
    schema: pa.Schema,
) -> Cleaned:
    """Write all cleaned conversations to an Arrow file, and collect what decides which of them stay."""
    copies = Copies()
    positions = [np.zeros(0, np.uint64)]
    with pa.OSFile(str(cleaned), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for chunk in chunks:
            parts = chunk.parts
            units = shares.units(parts)
            positions.append(np.array([position_of(unit) for unit in units], np.uint64))
            shares.add(parts, units)
            copies.add(parts, splits_at(positions[-1], config), chunk.texts, chunk.digests)
            counts.update(chunk.counts)
            writer.write_table(parts.turns)
    _put_in_order(counts)
    return Cleaned(copies, shares, np.concatenate(positions))


def _put_in_order(counts: Counter[str]) -> None:
    """Order the counts as they are shown, and not as the conversations with the causes happened to come."""
    first, last = (FORGOTTEN, CONVERSATIONS_READ, TURNS_READ), (WITHOUT_LETTERS, EMPTY, ALONE)
    others = [cause for cause in counts if cause not in first + last]
    ordered = {cause: counts[cause] for cause in (*first, *others, *last) if cause in counts}
    counts.clear()
    counts.update(ordered)


def _with_splits(
    found: Turns, removals: Removals, copies: NDArray[np.int64], counts: Counter[str], tally: Tally
) -> Iterator[pa.Table]:
    """Yield the turns that have a split and are no leaks, with the name of the split in a new column.

    Args:
        copies: the number of copies that each conversation has beside itself. The number of a copy becomes a
            part of its id.
    """
    names = text_array(SPLITS)
    for copy in range(1 + int(copies.max(initial=0))):
        is_used = (found.splits >= 0) & (copies >= copy)[found.conversations]
        for first, batch in found.batches():
            rows = np.flatnonzero(is_used[first : first + batch.num_rows])
            turns = pa.Table.from_batches([batch]).take(number_array(rows))
            split = names.take(number_array(found.splits[first + rows], pa.int32()))
            turns = turns.append_column(SPLIT_TURNS.field("split"), split)
            turns = removals.applied(turns, first + rows, Counter() if copy else counts)
            if copy:
                tally.copied += turns.num_rows
                ids = [f"{name}#{copy + 1}" for name in turns["conversation_id"].to_pylist()]
                turns = turns.set_column(0, TURNS.field(0), text_array(ids))
            yield turns


def _write(path: Path, tables: Iterator[pa.Table], written: Counter[str], schema: pa.Schema) -> int:
    """Write tables to a Parquet file in row groups of ROW_GROUP rows; return the number of rows.

    The bytes of the file depend on the rows, and not on how they are divided into tables.

    Args:
        written: the number of conversations of each split is added to these counts.
    """
    rows = 0
    waiting = schema.empty_table()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            waiting = pa.concat_tables([waiting, table])
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP).combine_chunks())
                waiting = waiting.slice(ROW_GROUP)
            rows += table.num_rows
            for pair in pc.value_counts(table["split"].filter(pc.equal(table["turn"], 0))):
                written[pair["values"].as_py()] += pair["counts"].as_py()
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks())
    return rows
