"""Batches: examples of like length together, so that little of a batch is padding.

Name suffixes are shapes: B batch, T tokens, S tokens of the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.schemas import EXAMPLES
from models.tokenizer import PAD, START

NO_LOSS = -1  # target of a position that carries no loss

Row = tuple[NDArray[np.int64], NDArray[np.bool_]]  # ids, is_reply


@dataclass(frozen=True)
class Batch:
    """What a network reads, and at each place the id that comes next (or NO_LOSS).

    Rows are padded on the right: a causal network never looks there. The context is the
    encoder's, and None for a network without one.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    context_BS: Tensor | None = None
    context_mask_BS: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        parts = (self.inputs_BT, self.targets_BT, self.context_BS, self.context_mask_BS)
        moved = (part if part is None else part.to(device, non_blocking=True) for part in parts)
        return Batch(*moved)  # type: ignore[arg-type]


class Examples:
    """A table of EXAMPLES as flat arrays."""

    def __init__(self, table: pa.Table) -> None:
        ids, flags = (table[name].combine_chunks() for name in ("ids", "is_reply"))
        lengths = ids.value_lengths().to_numpy(zero_copy_only=False)
        self.ids: NDArray[np.uint16] = ids.flatten().to_numpy()
        self.is_reply: NDArray[np.bool_] = flags.flatten().to_numpy(zero_copy_only=False).astype(bool)
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    def row(self, i: int) -> Row:
        span = slice(self.starts[i], self.starts[i + 1])
        return self.ids[span].astype(np.int64), self.is_reply[span]


def read(folder: Path, split: str) -> pa.Table:
    return pq.read_table(folder / f"{split}.parquet", schema=EXAMPLES)


def bucket(lengths: NDArray[np.int64], batch_tokens: int, rng: np.random.Generator | None = None) -> list[NDArray[np.int64]]:
    """Row numbers of each batch: at most `batch_tokens` places, padding included, or a single row.

    With `rng` equal lengths stand in a new order and so do the batches; their number is the same.
    """
    tie = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    order = np.lexsort((tie, lengths))
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        full = end == len(order) or (end - start + 1) * lengths[order[end]] > batch_tokens
        if full:
            batches.append(order[start:end])
            start = end
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def epoch_batches(lengths: NDArray[np.int64], batch_tokens: int, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The batches of an epoch, from (seed, epoch) alone: a resumed training finds its place again."""
    return bucket(lengths, batch_tokens, np.random.default_rng((seed, epoch)))


def collate(rows: Sequence[Row], *, has_encoder: bool) -> Batch:
    """The batch of some rows; with an encoder, the ids before the reply are its context."""
    if not has_encoder:
        inputs = [ids[:-1] for ids, _ in rows]
        targets = [np.where(flags[1:], ids[1:], NO_LOSS) for ids, flags in rows]
        return Batch(_pad(inputs, PAD), _pad(targets, NO_LOSS))
    contexts = [ids[~flags] for ids, flags in rows]
    replies = [ids[flags] for ids, flags in rows]
    inputs = [np.concatenate([[START], reply[:-1]]) for reply in replies]
    return Batch(
        _pad(inputs, PAD), _pad(replies, NO_LOSS), _pad(contexts, PAD), _pad([np.ones_like(c) for c in contexts], 0)
    )


def _pad(rows: Sequence[NDArray[np.int64]], value: int) -> Tensor:
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
