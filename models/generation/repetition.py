"""Repetition: tokens and sequences of tokens that were there before become less likely, or impossible.

Both count the context, as in transformers: of an encoder-decoder only what its decoder is given.

Name suffixes are shapes: B batch, V vocabulary.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from models.generation.config import GenerationConfig


class Repetition:
    """What each row of a batch holds so far."""

    def __init__(self, rows: Sequence[Sequence[int]], config: GenerationConfig, logits_BV: Tensor) -> None:
        self._penalty = config.repetition_penalty
        self._is_there_BV = torch.zeros_like(logits_BV, dtype=torch.bool) if self._penalty != 1 else None
        self.bans = config.no_repeat_ngram > 0
        self._ngrams = [_Ngrams(config.no_repeat_ngram) for _ in rows] if self.bans else []
        for row, ids in enumerate(rows):
            if self._is_there_BV is not None:
                self._is_there_BV[row, list(ids)] = True
            for token in ids if self.bans else ():
                self._ngrams[row].add(token)

    def lower(self, logits_BV: Tensor) -> None:
        """The logits, in place: divided by the penalty, or multiplied where negative; minus infinity."""
        if self._is_there_BV is not None:
            lowered_BV = torch.where(logits_BV < 0, logits_BV * self._penalty, logits_BV / self._penalty)
            torch.where(self._is_there_BV, lowered_BV, logits_BV, out=logits_BV)
        for row, ngrams in enumerate(self._ngrams):
            logits_BV[row, ngrams.banned()] = -math.inf

    def add(self, tokens: Sequence[int]) -> None:
        """The token that each row was given."""
        if self._is_there_BV is not None:
            self._is_there_BV[range(len(tokens)), list(tokens)] = True
        for row, ngrams in enumerate(self._ngrams):
            ngrams.add(tokens[row])


class _Ngrams:
    """Which tokens followed each sequence of `size` - 1 tokens so far."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: tuple[int, ...] = ()
        self._followers: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)

    def add(self, token: int) -> None:
        if len(self._last) == self._size - 1:
            self._followers[self._last].append(token)
        self._last = (*self._last, token)[1 - self._size :] if self._size > 1 else ()

    def banned(self) -> list[int]:
        return self._followers.get(self._last, [])
