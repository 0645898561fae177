"""Removals: takes leaks out of the splits, and writes each with its twin to leaks.parquet.

A turn of the training split that is a near copy leaves, and its conversation is divided there. If only the
exchange is a copy, the conversation is divided between its two turns, and both stay. A reply of the
validation split gets the weight 0, so that it is not scored, and stays as context.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.arrays import number_array, numbers_of, text_array
from corpus.cleaning.conversations import divide_conversations
from corpus.cleaning.leaks import TRAIN, Flags, Numbers, Turns, choose, find_leaks
from models.data.schemas import LEAKS, SPLITS
from models.errors import DataRejected

NEAR_COPIES = "training turns removed as near copies of scored replies"
EXCHANGES = "training exchanges divided because the same exchange is scored"
UNSCORED = "validation replies not scored because the test set holds them"
COMMON = "scored replies that recur in three or more other conversations (nothing is removed for them)"
EXACT_EXCHANGE, NEAR_COPY = "exact exchange", "near copy"
LEAKS_STORED = 10_000  # leaks after the first 10,000 are only counted

log = logging.getLogger(__name__)


class Removals:
    """What the leaks of a corpus change in its turns."""

    def __init__(self, turns: Turns, counts: Counter[str]) -> None:
        """Find the leaks, and count them.

        Raises:
            DataRejected: no reply of the validation split can be scored.
        """
        self._turns = turns
        self._leaks, num_common = find_leaks(turns)
        rows, is_near_copy = self._leaks.rows, self._leaks.is_near_copy
        is_train = turns.splits[rows] == TRAIN
        self._is_removed = self._flags(rows[is_train & is_near_copy])
        self._is_divided = self._flags(rows[is_train & ~is_near_copy])
        self._is_unscored = self._flags(rows[~is_train])
        found = {
            NEAR_COPIES: int(self._is_removed.sum()),
            EXCHANGES: int(self._is_divided.sum()),
            UNSCORED: int(self._is_unscored.sum()),
            COMMON: num_common,
        }
        found = {cause: number for cause, number in found.items() if number}
        counts.update(found)
        if len(rows):
            causes = "; ".join(f"{number:,} {cause}" for cause, number in found.items())
            log.info("clean: %s; leaks.parquet names each with its twin", causes)
        is_left = turns.is_scored & (turns.splits == SPLITS.index("validation")) & ~self._is_unscored
        if self._is_unscored.any() and not is_left.any():
            raise no_replies_left("validation")

    def _flags(self, rows: Numbers) -> Flags:
        flags = np.zeros(len(self._turns.splits), bool)
        flags[rows] = True
        return flags

    def applied(self, turns: pa.Table, rows: Numbers, counts: Counter[str]) -> pa.Table:
        """Turns of whole conversations without the leaks; `rows` has the number of each among all turns."""
        if (is_unscored := self._is_unscored[rows]).any():
            weights = np.where(is_unscored, 0, numbers_of(turns["weight"].combine_chunks()))
            position = turns.schema.get_field_index("weight")
            column = number_array(weights, pa.float32())
            turns = turns.set_column(position, turns.schema.field("weight"), column)
        is_removed, is_divided = self._is_removed[rows], self._is_divided[rows]
        if not (is_removed.any() or is_divided.any()):
            return turns
        return divide_conversations(turns, is_removed, is_divided, counts)

    def write(self, path: Path) -> None:
        """Write a table with the schema LEAKS. The ids decide its order, and which leaks are in it."""
        leaks = choose(self._leaks, np.arange(min(len(self._leaks.rows), LEAKS_STORED)))
        names, splits = ("conversation_id", "turn", "text"), text_array(SPLITS)
        columns = {}
        for prefix, rows in (("", leaks.rows), ("twin_", leaks.twins)):
            turns = self._turns.take(rows, names)
            columns.update({f"{prefix}{name}": turns[name] for name in names})
            columns[f"{prefix}split"] = splits.take(number_array(self._turns.splits[rows], pa.int32()))
        causes = text_array([EXACT_EXCHANGE, NEAR_COPY])
        columns["cause"] = causes.take(number_array(leaks.is_near_copy, pa.int32()))
        columns["similarity"] = number_array(leaks.similarities)
        table = pa.table([columns[name] for name in LEAKS.names], schema=LEAKS)
        pq.write_table(table, path, compression="zstd")


def no_replies_left(split: str) -> DataRejected:
    """The error for a split that consists of leaks."""
    others = "test split" if split == "validation" else "validation and test splits"
    return DataRejected(
        f"the {split} split has no reply left, because the {others} contain the same replies: use a corpus "
        "with more groups, or remove the copies from it"
    )
