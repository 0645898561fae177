"""Metrics of a model: its loss on reply tokens, and statistics of whole replies.

All metrics are accumulated as sums and divided only at the end, so they do not depend on the batching.

The suffix of a tensor's name gives its shape: B batch, T tokens, N reply tokens, D width, V vocabulary.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from models.data.batches import Examples, Row, bucket, collate
from models.generation.generator import evaluating
from models.network import networks

log = logging.getLogger(__name__)

BATCH_TOKENS = 4096
LOG_SECONDS = 20
SLICE = 512  # positions; their logits take 100 MB if the vocabulary has 50k tokens
LOOP_NGRAM = 4
LOOP_RUN = 3

Sums = NDArray[np.float64]


class GroupScore(NamedTuple):
    """The nats and the bytes of one group; bits per byte = nats / (ln 2 * bytes)."""

    nats: float
    """The negative log-likelihood of the group's reply tokens in nats, plus the spelling charges."""
    bytes: int
    """The UTF-8 bytes of the group's replies, plus one byte for the end of each reply."""


@dataclass(frozen=True)
class Score:
    """Sums over the reply tokens of some examples, including the <end> of each reply."""

    nats: float
    correct: int
    tokens: int
    bytes: int
    replies: int
    spelled_nats: float
    by_group: dict[str, GroupScore]

    @property
    def bpb(self) -> float:
        """Bits per byte, the only metric that is comparable between models with different vocabularies.

        docs/decisions/0004-bits-per-byte-on-text.md gives the reasons for the formula.
        """
        return (self.nats + self.spelled_nats) / math.log(2) / (self.bytes + self.replies)

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats / self.tokens)

    @property
    def accuracy(self) -> float:
        """The share of reply tokens that the model considers the most likely of all tokens."""
        return self.correct / self.tokens


def score(model: PreTrainedModel, examples: pa.Table, *, batch_tokens: int = BATCH_TOKENS) -> Score:
    """The model's score on a table with the schema EXAMPLES.

    Raises:
        ValueError: there is no reply to score.
    """
    rows = Examples(examples)
    tokens = int(rows.is_reply.sum())
    if not tokens:
        raise ValueError("no example contains a reply; there is nothing to score")
    nats, correct = np.zeros(len(rows)), np.zeros(len(rows))
    with evaluating(model), torch.inference_mode():
        batches = bucket(rows.lengths, batch_tokens)
        began_s = logged_s = time.monotonic()
        for number, row_ids in enumerate(batches, start=1):
            nats[row_ids], correct[row_ids] = _score_batch(model, [rows.row(i) for i in row_ids])
            if time.monotonic() - logged_s > LOG_SECONDS:
                logged_s = time.monotonic()
                left_s = (logged_s - began_s) * (len(batches) / number - 1)
                log.info("scored %d of %d batches, about %.0f s remain", number, len(batches), left_s)
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


def _by_group(groups: Sequence[str], nats: Sums, sizes: NDArray[np.int64]) -> dict[str, GroupScore]:
    names, group_ids = np.unique(np.array(groups, dtype=object), return_inverse=True)
    sums = np.bincount(group_ids, nats), np.bincount(group_ids, sizes)
    return {
        str(name): GroupScore(float(total), int(size)) for name, total, size in zip(names, *sums, strict=True)
    }


def _score_batch(model: PreTrainedModel, rows: Sequence[Row]) -> tuple[Sums, Sums]:
    """Return two sums for each row: the nats of its reply tokens, and the number of correct predictions."""
    batch = collate(rows, has_encoder=networks.is_encoder_decoder(model)).to(model.device)
    is_target_BT = batch.targets_BT >= 0
    hidden_ND, targets_N = networks.hidden_states(model, batch)[is_target_BT], batch.targets_BT[is_target_BT]
    # Compute the logits slice by slice: with a large vocabulary, a batch's logits would fill the memory.
    parts = zip(torch.split(hidden_ND, SLICE), torch.split(targets_N, SLICE), strict=True)
    parts_scored = [
        _nats(networks.lm_head(model)(some_ND), some_targets_N) for some_ND, some_targets_N in parts
    ]
    nats_N, correct_N = (torch.cat(each) for each in zip(*parts_scored, strict=True))
    row_N = (batch.targets_BT >= 0).nonzero()[:, 0].cpu().numpy()
    nats = np.bincount(row_N, nats_N.cpu().double().numpy(), minlength=len(rows))
    correct = np.bincount(row_N, correct_N.cpu().double().numpy(), minlength=len(rows))
    return nats.astype(np.float64), correct.astype(np.float64)


def _nats(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    nats_N = F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return nats_N, logits_NV.argmax(dim=-1) == targets_N


def majority_accuracy(train: Mapping[int, int], test: Mapping[int, int]) -> float:
    """The accuracy on `test` of always guessing the commonest token in `train`.

    Both arguments map token ids to counts.
    """
    commonest = max(train, key=lambda token: (train[token], -token))
    return test.get(commonest, 0) / sum(test.values())


def distinct_n(replies: Sequence[Sequence[int]], n: int) -> float:
    """Distinct n-grams divided by all n-grams (https://arxiv.org/abs/1510.03055); 0 if there are none."""
    grams = [gram for reply in replies for gram in _ngrams(reply, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(replies: Sequence[Sequence[int]]) -> float:
    """Share of replies that loop: the same 4 tokens occur twice, or one token occurs 3 times in a row."""
    return sum(map(loops, replies)) / len(replies) if replies else 0.0


def stopped_share(finished: Sequence[bool]) -> float:
    """Share of the replies that the model itself ended, before reaching the token limit."""
    return sum(finished) / len(finished) if finished else 0.0


def commonest_reply_share(replies: Sequence[Hashable]) -> float:
    """Share of the replies that equal the commonest reply; near 1 if almost every context gets that reply."""
    return Counter(replies).most_common(1)[0][1] / len(replies) if replies else 0.0


def loops(reply: Sequence[int]) -> bool:
    """Whether the same 4 tokens occur twice in the reply, or one token 3 times in a row."""
    grams = _ngrams(reply, LOOP_NGRAM)
    return len(set(grams)) < len(grams) or any(len(set(run)) == 1 for run in _ngrams(reply, LOOP_RUN))


def _ngrams(reply: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(reply[i : i + n]) for i in range(len(reply) - n + 1)]
