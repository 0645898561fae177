"""Metrics: what a model is worth, in nats over reply tokens and in figures about whole replies.

Everything is a sum before it is divided: a figure never depends on how the examples were batched.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from models.generation import evaluating
from models.tokenizer import PAD

BATCH_TOKENS = 4096  # times a vocabulary of 8k: 134 MB of logits at most
LOOP_NGRAM = 4
LOOP_RUN = 3


class GroupScore(NamedTuple):
    """One group's part in `Score.bpb`: ln 2 times it is `nats / bytes`."""

    nats: float
    """Of the tokens, and of the spelling of what no token stands for."""
    bytes: int
    """Of the replies, and one for the end of each."""


@dataclass(frozen=True)
class Score:
    """Sums over the reply tokens of some examples, each reply's <end> among them."""

    nats: float
    correct: int
    tokens: int
    bytes: int
    replies: int
    spelled_nats: float
    by_group: dict[str, GroupScore]

    @property
    def bpb(self) -> float:
        """Bits per byte: the one figure that compares models of different vocabularies."""
        return (self.nats + self.spelled_nats) / math.log(2) / (self.bytes + self.replies)

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def accuracy(self) -> float:
        """How often the likeliest token is the one that was said."""
        return self.correct / self.tokens


@dataclass(frozen=True)
class _Ids:
    """The ids and reply flags of a table's rows, without a list for each."""

    ids: NDArray[np.int64]
    is_reply: NDArray[np.bool_]
    starts: NDArray[np.int64]  # one more than there are rows

    def row(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        span = slice(self.starts[i], self.starts[i + 1])
        return self.ids[span], self.is_reply[span]


def score(model: PreTrainedModel, examples: pa.Table, *, batch_tokens: int = BATCH_TOKENS) -> Score:
    """The model's score on a table of EXAMPLES.

    Raises:
        ValueError: there is no reply to score.
    """
    rows = _read_ids(examples)
    nats = np.zeros(examples.num_rows)
    correct = np.zeros(examples.num_rows, dtype=np.int64)
    with evaluating(model), torch.inference_mode():
        for batch in _batches(np.diff(rows.starts), batch_tokens):
            nats[batch], correct[batch] = _score_batch(model, [rows.row(i) for i in batch])
    tokens = int(rows.is_reply.sum())
    if not tokens:
        raise ValueError("no example holds a reply; there is nothing to score")
    spelled, text_bytes, replies = (
        examples[name].to_numpy() for name in ("spelled_nats", "reply_bytes", "replies")
    )
    return Score(
        nats=float(nats.sum()),
        correct=int(correct.sum()),
        tokens=tokens,
        bytes=int(text_bytes.sum()),
        replies=int(replies.sum()),
        spelled_nats=float(spelled.sum()),
        by_group=_by_group(examples["group"].to_pylist(), nats + spelled, text_bytes + replies),
    )


def _by_group(
    groups: Sequence[str], nats: NDArray[np.float64], sizes: NDArray[np.int64]
) -> dict[str, GroupScore]:
    names, places = np.unique(np.array(groups, dtype=object), return_inverse=True)
    sums = np.bincount(places, nats), np.bincount(places, sizes)
    return {
        str(name): GroupScore(float(total), int(size))
        for name, total, size in zip(names, *sums, strict=True)
    }


def _read_ids(examples: pa.Table) -> _Ids:
    ids, flags = (examples[name].combine_chunks() for name in ("ids", "is_reply"))
    lengths = ids.value_lengths().to_numpy(zero_copy_only=False)
    return _Ids(
        ids=ids.flatten().to_numpy().astype(np.int64),
        is_reply=flags.flatten().to_numpy(zero_copy_only=False).astype(bool),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    )


def _batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[list[int]]:
    """Rows of like length together, so that little is padding."""
    batch: list[int] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[i] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _score_batch(
    model: Any, rows: Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(nats, correct) of each row's reply tokens."""
    hidden_BTD, targets_BT, asked_BT = (_pair_hidden if model.config.is_encoder_decoder else _hidden)(model, rows)
    logits_NV = _head(model)(hidden_BTD[asked_BT]).float()
    targets_N = targets_BT[asked_BT]
    row_N = asked_BT.nonzero()[:, 0].cpu().numpy()
    nats_N = F.cross_entropy(logits_NV, targets_N, reduction="none").double().cpu().numpy()
    correct_N = (logits_NV.argmax(dim=-1) == targets_N).cpu().numpy()
    return (
        np.bincount(row_N, nats_N, minlength=len(rows)),
        np.bincount(row_N, correct_N, minlength=len(rows)).astype(np.int64),
    )
