"""Batches: examples of similar length are batched together, so that a batch contains little padding.

The suffix of a tensor's name gives its shape: B batch, T tokens, S tokens of the context, N positions with
loss, D width.
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

from models.data.schemas import EXAMPLES, SILENT
from models.text.tokenizer import PAD, START

NO_LOSS = -1  # target of a position that carries no loss

Row = tuple[NDArray[np.int64], NDArray[np.bool_]]  # ids, is_reply


@dataclass(frozen=True)
class Batch:
    """The input ids of a network, and a target for each position: the next id, or NO_LOSS.

    Each row is padded on the right, so in a causal network no real position attends to padding. Only
    lengths_B says where the padding begins, because some vocabularies also use the padding id for text.
    The context is the encoder's input; it is None for a network without an encoder.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    lengths_B: Tensor
    context_BS: Tensor | None = None
    context_mask_BS: Tensor | None = None
    is_silent_BT: Tensor | None = None
    """Whether the next id at each position carries no loss at all; None if there are no such ids."""

    def to(self, device: torch.device) -> "Batch":
        parts = (
            self.inputs_BT,
            self.targets_BT,
            self.lengths_B,
            self.context_BS,
            self.context_mask_BS,
            self.is_silent_BT,
        )
        tensors = (part if part is None else part.to(device, non_blocking=True) for part in parts)
        return Batch(*tensors)  # type: ignore[arg-type]


class LossInputs(NamedTuple):
    """The inputs of the loss: N hidden states, each with its target id and its weight.

    A step on packed sequences has a fixed shape: it is padded with positions of weight 0.
    """

    hidden_ND: Tensor
    targets_N: Tensor
    weights_N: Tensor
    is_reply_N: Tensor


class Examples:
    """The examples in a table of the schema EXAMPLES (models/data/schemas.py), as flat arrays."""

    is_silent: NDArray[np.bool_] | None = None
    """Whether each id carries no loss at all (the column `silent`); None if the table has no such ids."""

    def __init__(self, table: pa.Table) -> None:
        ids, flags = (table[name].combine_chunks() for name in ("ids", "is_reply"))
        lengths = ids.value_lengths().to_numpy(zero_copy_only=False)
        self.ids: NDArray[np.uint32] = ids.flatten().to_numpy()
        self.is_reply: NDArray[np.bool_] = flags.flatten().to_numpy(zero_copy_only=False).astype(bool)
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        if SILENT.name in table.column_names:
            silent = table[SILENT.name].to_numpy()
            within = np.arange(len(self.ids)) - np.repeat(self.starts[:-1], lengths)
            self.is_silent = within < np.repeat(silent, lengths)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @cached_property
    def replies(self) -> NDArray[np.int64]:
        """The number of reply tokens in each row; the shape is (rows,)."""
        cumulative = np.concatenate([[0], np.cumsum(self.is_reply, dtype=np.int64)])
        return np.diff(cumulative[self.starts])

    def sides(self, *, has_encoder: bool) -> NDArray[np.int64]:
        """The number of tokens in each row; the shape is (rows, 1).

        With an encoder, context and reply tokens are counted separately, and the shape is (rows, 2).
        """
        if not has_encoder:
            return self.lengths[:, None]
        return np.stack([self.lengths - self.replies, self.replies], axis=1)

    def row(self, i: int) -> Row:
        span = slice(self.starts[i], self.starts[i + 1])
        return self.ids[span].astype(np.int64), self.is_reply[span]

    def silent_targets(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor | None:
        """Whether each target of a padded batch of these rows carries no loss at all; None if all may."""
        if self.is_silent is None:
            return None
        flags = [self.is_silent[self.starts[i] + 1 : self.starts[i + 1]].astype(np.int64) for i in rows]
        return _pad(flags, 0).bool()


def read_examples(folder: Path, split: str) -> pa.Table:
    """The examples of a split (train, validation or test), as a table of the schema EXAMPLES.

    It has the column `silent`, too, if the conversations have system texts.
    """
    path = folder / f"{split}.parquet"
    has_silent = SILENT.name in pq.read_schema(path).names
    return pq.read_table(path, schema=EXAMPLES.append(SILENT) if has_silent else EXAMPLES)


def name_rows(table: pa.Table, rows: NDArray[np.int64], most: int = 3) -> str:
    """Return the ids of the rows' conversations as text: at most `most` ids, and how many more there are."""
    names = table["conversation_id"].take(rows).unique().to_pylist()
    others = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{others}"


def bucket(
    lengths: NDArray[np.int64], batch_tokens: int, rng: np.random.Generator | None = None
) -> list[NDArray[np.int64]]:
    """Divide the rows into batches of similar length, and return the row numbers of each batch.

    A batch has at most `batch_tokens` positions, including padding, unless it consists of a single row. The
    shape of `lengths` is (rows,), or (rows, 2) if context and reply are padded separately. If `rng` is given,
    the order of the batches is random, and so is the order of rows of equal length. The number of batches
    does not depend on `rng`.
    """
    sides = lengths if lengths.ndim == 2 else lengths[:, None]
    tie_break = np.arange(len(sides)) if rng is None else rng.permutation(len(sides))
    order = _group_by_length(sides, batch_tokens, tie_break)
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


def _group_by_length(
    sides: NDArray[np.int64], batch_tokens: int, tie_break: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Return an order of the rows in which neighbouring rows have similar lengths on each side.

    If context and reply are two separate sides, the rows are divided into strips of similar context length;
    there are about as many strips as there are batches in a strip. The strips are sorted by reply length,
    alternately in ascending and descending order. With one side there is a single strip.
    """
    context, reply = sides[:, :-1].sum(axis=1), sides[:, -1]
    strips = max(1, round(math.sqrt(int(sides.sum()) / batch_tokens)))
    edges = np.unique(np.quantile(context, np.arange(1, strips) / strips)) if len(sides) else np.zeros(0)
    strip = np.searchsorted(edges, context)
    snake = np.where(strip % 2, -reply, reply)
    return np.lexsort((tie_break, context, snake, strip))


def epoch_batches(
    lengths: NDArray[np.int64], batch_tokens: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """The batches of an epoch. They depend only on the arguments, so a resumed run gets the same batches."""
    return bucket(lengths, batch_tokens, np.random.default_rng((seed, epoch)))


def collate(rows: Sequence[Row], *, has_encoder: bool) -> Batch:
    """Collate rows into a padded batch. With an encoder, the ids before the reply are the encoder's input.

    The reply targets of padded batches are shifted here and nowhere else: the target at each position is the
    id at the next position.
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
    # Rows are padded to at least one position, so that even a batch without ids has targets (NO_LOSS).
    padded = np.full((len(rows), max(1, *map(len, rows))), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
