"""Batches: examples of like length together, so that little of a batch is padding.

Name suffixes are shapes: B batch, T tokens, S tokens of the context.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.schemas import EXAMPLES
from models.text.tokenizer import PAD, START

NO_LOSS = -1  # target of a position that carries no loss

Row = tuple[NDArray[np.int64], NDArray[np.bool_]]  # ids, is_reply


@dataclass(frozen=True)
class Batch:
    """What a network reads, and at each place the id that comes next (or NO_LOSS).

    Rows are padded on the right, from lengths_B on: a causal network never looks there. Which id
    stands there says nothing, since a vocabulary may use it for text too. The context is the
    encoder's, and None for a network without one.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    lengths_B: Tensor
    context_BS: Tensor | None = None
    context_mask_BS: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        parts = (self.inputs_BT, self.targets_BT, self.lengths_B, self.context_BS, self.context_mask_BS)
        moved = (part if part is None else part.to(device, non_blocking=True) for part in parts)
        return Batch(*moved)  # type: ignore[arg-type]


class LossInputs(NamedTuple):
    """What a network learns of in a step: N hidden states, the id that follows each, and its weight.

    A weight of 0 is no loss, wherever a step of one shape has room left.
    """

    hidden_ND: Tensor
    targets_N: Tensor
    weights_N: Tensor
    is_reply_N: Tensor


class Examples:
    """A table of EXAMPLES as flat arrays."""

    def __init__(self, table: pa.Table) -> None:
        ids, flags = (table[name].combine_chunks() for name in ("ids", "is_reply"))
        lengths = ids.value_lengths().to_numpy(zero_copy_only=False)
        self.ids: NDArray[np.uint32] = ids.flatten().to_numpy()
        self.is_reply: NDArray[np.bool_] = flags.flatten().to_numpy(zero_copy_only=False).astype(bool)
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @cached_property
    def replies(self) -> NDArray[np.int64]:
        """Reply tokens of each row."""
        counted = np.concatenate([[0], np.cumsum(self.is_reply, dtype=np.int64)])
        return np.diff(counted[self.starts])

    def sides(self, *, has_encoder: bool) -> NDArray[np.int64]:
        """What each row fills of a batch: one length, or the context's and the reply's."""
        if not has_encoder:
            return self.lengths[:, None]
        return np.stack([self.lengths - self.replies, self.replies], axis=1)

    def row(self, i: int) -> Row:
        span = slice(self.starts[i], self.starts[i + 1])
        return self.ids[span].astype(np.int64), self.is_reply[span]


def read_examples(folder: Path, split: str) -> pa.Table:
    return pq.read_table(folder / f"{split}.parquet", schema=EXAMPLES)


def name_rows(table: pa.Table, rows: NDArray[np.int64], most: int = 3) -> str:
    """Some of the conversations that the rows are of."""
    names = table["conversation_id"].take(rows).unique().to_pylist()
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def bucket(
    lengths: NDArray[np.int64], batch_tokens: int, rng: np.random.Generator | None = None
) -> list[NDArray[np.int64]]:
    """Row numbers of each batch: at most `batch_tokens` places, padding included, or a single row.

    `lengths` is one a row, or a column for each side that is padded on its own. With `rng` equal
    lengths stand in a new order and so do the batches; their number is the same.
    """
    sides = lengths if lengths.ndim == 2 else lengths[:, None]
    tie = np.arange(len(sides)) if rng is None else rng.permutation(len(sides))
    order = _alike(sides, batch_tokens, tie)
    batches, start, longest = [], 0, [0] * sides.shape[1]
    for end, row in enumerate(sides[order].tolist()):
        widest = [max(pair) for pair in zip(longest, row, strict=True)]
        if end > start and (end - start + 1) * sum(widest) > batch_tokens:
            batches.append(order[start:end])
            start, widest = end, row
        longest = widest
    if start < len(order):
        batches.append(order[start:])
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _alike(sides: NDArray[np.int64], batch_tokens: int, tie: NDArray[np.int64]) -> NDArray[np.intp]:
    """An order in which neighbours are of like length on each side.

    Two sides: strips of like contexts, as many as each strip has batches, and in each the replies
    by length, rising and falling in turn. One side is a single strip.
    """
    context, reply = sides[:, :-1].sum(axis=1), sides[:, -1]
    strips = max(1, round(math.sqrt(int(sides.sum()) / batch_tokens)))
    edges = np.unique(np.quantile(context, np.arange(1, strips) / strips)) if len(sides) else np.zeros(0)
    strip = np.searchsorted(edges, context)
    snake = np.where(strip % 2, -reply, reply)
    return np.lexsort((tie, context, snake, strip))


def epoch_batches(
    lengths: NDArray[np.int64], batch_tokens: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """The batches of an epoch, from (seed, epoch) alone: a resumed training finds its place again."""
    return bucket(lengths, batch_tokens, np.random.default_rng((seed, epoch)))


def collate(rows: Sequence[Row], *, has_encoder: bool) -> Batch:
    """The batch of some rows; with an encoder, the ids before the reply are its context.

    The shift is here and nowhere else: the target at a place is the id that comes next.
    """
    if not has_encoder:
        inputs = [ids[:-1] for ids, _ in rows]
        targets = [np.where(flags[1:], ids[1:], NO_LOSS) for ids, flags in rows]
        return Batch(_pad(inputs, PAD), _pad(targets, NO_LOSS), _lengths(inputs))
    contexts = [ids[~flags] for ids, flags in rows]
    replies = [ids[flags] for ids, flags in rows]
    inputs = [np.concatenate([[START], reply[:-1]]) for reply in replies]
    return Batch(
        _pad(inputs, PAD),
        _pad(replies, NO_LOSS),
        _lengths(inputs),
        _pad(contexts, PAD),
        _pad([np.ones_like(context) for context in contexts], 0),
    )


def _lengths(rows: Sequence[NDArray[np.int64]]) -> Tensor:
    return torch.tensor([len(row) for row in rows])


def _pad(rows: Sequence[NDArray[np.int64]], value: int) -> Tensor:
    # One place at least: a row without any still has its targets to ignore.
    padded = np.full((len(rows), max(1, *map(len, rows))), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
