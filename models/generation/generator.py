"""Generation: the reply that a model gives to a context, token by token.

Ours and not `model.generate`, so that a reply streams, never is empty, never holds a control token
and never outgrows the model's positions; the greedy ids are those of `generate` with the same bans.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.errors import InputError
from models.generation.config import GenerationConfig
from models.generation.repetition import Repetition
from models.network.llama.decoder import decoder_of
from models.text.tokenizer import OURS, START, Control

# Colder than this is the likeliest token each time: dividing by it leaves nothing else.
GREEDY_BELOW = 1e-4
OVER = -1  # what a row that has ended goes on with: no id, since a vocabulary may need each of them
MAX_BATCH = 64
FEW = 128  # tokens that mostly hold top_p between them


@dataclass(frozen=True)
class Reply:
    """The ids of one reply, its <end> not among them; `finished`: the model ended it itself."""

    ids: list[int]
    finished: bool


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off inside; the model is in its former mode after."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


class Generator:
    """Replies of one model, decoder-only or encoder-decoder.

    Its weights are read when the Generator is made: after a training step, make another.
    """

    def __init__(self, model: PreTrainedModel, control: Control = OURS) -> None:
        self.control = control
        self.model: Any = model
        self._decoder = decoder_of(model)
        self.has_encoder = bool(model.config.is_encoder_decoder)
        decoder = model.config.decoder if self.has_encoder else model.config
        self.positions = int(decoder.max_position_embeddings)
        encoder = model.config.encoder if self.has_encoder else model.config
        self.context_positions = int(encoder.max_position_embeddings)

    def stream(
        self,
        context_ids: Sequence[int],
        config: GenerationConfig,
        generator: torch.Generator | None = None,
    ) -> Iterator[int]:
        """The ids of a reply as they are made, <end> not among them.

        `generator` is where the chances come from; without one they come from the config's seed.
        """
        for (token,) in self._steps([context_ids], config, [generator or chances(config.seed)]):
            if token != self.control.end:
                yield token

    def reply(
        self,
        context_ids: Sequence[int],
        config: GenerationConfig,
        generator: torch.Generator | None = None,
    ) -> Reply:
        """The whole reply that `stream` gives, and whether it ended by itself."""
        steps = self._steps([context_ids], config, [generator or chances(config.seed)])
        return self._reply([token for (token,) in steps])

    def replies(self, contexts: Sequence[Sequence[int]], config: GenerationConfig) -> list[Reply]:
        """A reply to each context, in order: number i is what `reply` gives with the seed + i."""
        made: list[Reply | None] = [None] * len(contexts)
        by_length = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        for start in range(0, len(by_length), MAX_BATCH):
            rows = by_length[start : start + MAX_BATCH]
            drawn = [chances(config.seed, i) for i in rows]
            steps = list(self._steps([contexts[i] for i in rows], config, drawn))
            for row, i in enumerate(rows):
                made[i] = self._reply([step[row] for step in steps])
        return [reply for reply in made if reply is not None]

    @torch.inference_mode()
    def _steps(
        self,
        contexts: Sequence[Sequence[int]],
        config: GenerationConfig,
        generators: Sequence[torch.Generator],
    ) -> Iterator[list[int]]:
        """One id for each context, again and again; OVER for a row that has ended."""
        _check(config)
        limits = [self.limit(context, config) for context in contexts]
        with evaluating(self.model):
            logits_BV, advance = self._decoder.begin(contexts, max(limits) - 1)
            before = [[START]] * len(contexts) if self.has_encoder else contexts
            repetition = Repetition(before, config, logits_BV)
            ended = [False] * len(contexts)
            for made in range(1, max(limits) + 1):
                _check_finite(logits_BV)
                self._ban(logits_BV, repetition, first=made == 1)
                picked = _pick(logits_BV, config, generators)
                tokens = [OVER if over else token for over, token in zip(ended, picked, strict=True)]
                yield tokens
                ended = [
                    over or token == self.control.end or made == limit
                    for over, token, limit in zip(ended, tokens, limits, strict=True)
                ]
                if all(ended):
                    return
                repetition.add(tokens)
                logits_BV = advance([max(token, 0) for token in tokens])

    def _reply(self, tokens: list[int]) -> Reply:
        end = self.control.end
        return Reply([token for token in tokens if token not in (end, OVER)], end in tokens)

    def _ban(self, logits_BV: Tensor, repetition: Repetition, *, first: bool) -> None:
        """What a reply never holds, or never begins with, or may not repeat goes to minus infinity."""
        before_BV = logits_BV.clone() if repetition.bans else logits_BV
        repetition.lower(logits_BV)
        for token in (*self.control.banned, self.control.end) if first else self.control.banned:
            logits_BV[:, token] = -math.inf
            before_BV[:, token] = -math.inf
        if repetition.bans:
            # Where every token would be a repetition, repetition is no reason.
            nothing_B1 = (logits_BV == -math.inf).all(dim=-1, keepdim=True)
            torch.where(nothing_B1, before_BV, logits_BV, out=logits_BV)

    def limit(self, context: Sequence[int], config: GenerationConfig) -> int:
        """How many tokens the positions leave room for; the last one made takes no position."""
        if len(context) > self.context_positions:
            raise InputError(
                f"the context has {len(context)} tokens and the model reads "
                f"{self.context_positions} at most; shorten it"
            )
        room = self.positions if self.has_encoder else self.positions - len(context) + 1
        return min(config.max_tokens, room)


def _check(config: GenerationConfig) -> None:
    """Refuse what a config cannot hold, for one that was made without being checked."""
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature is {config.temperature}; give 0 or more")
    if not 0 < config.top_p <= 1:
        raise InputError(f"top_p is {config.top_p}; give more than 0 and at most 1")
    if not 0 < config.repetition_penalty < math.inf:
        raise InputError(f"repetition_penalty is {config.repetition_penalty}; give more than 0")
    for name, least in {"max_tokens": 1, "top_k": 0, "no_repeat_ngram": 0}.items():
        if getattr(config, name) < least:
            raise InputError(f"{name} is {getattr(config, name)}; give {least} or more")


def chances(seed: int | None, row: int = 0) -> torch.Generator:
    """Where a reply's chances come from; on the CPU, so that a seed means the same everywhere."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed((seed + row) % 2**63)


def _check_finite(logits_BV: Tensor) -> None:
    # The greatest alone is looked at, in one pass: it is NaN where any is.
    if not bool(logits_BV.amax(dim=-1).isfinite().all()):
        raise FloatingPointError("the model's logits are not finite: it is damaged; train it again")


def _pick(logits_BV: Tensor, config: GenerationConfig, generators: Sequence[torch.Generator]) -> list[int]:
    """One token a row: the likeliest, or one drawn from the `top_k` likeliest that hold `top_p`."""
    if config.temperature < GREEDY_BELOW:
        greedy: list[int] = logits_BV.argmax(dim=-1).tolist()
        return greedy
    return [_draw(logits_V, config, own) for logits_V, own in zip(logits_BV, generators, strict=True)]


def _draw(logits_V: Tensor, config: GenerationConfig, own: torch.Generator) -> int:
    # Less the greatest first: a small temperature then makes -inf and not inf.
    scaled_V = (logits_V - logits_V.amax()) / config.temperature
    if config.top_k:
        scaled_V, order_V = scaled_V.topk(min(config.top_k, len(scaled_V)))
        share_V = scaled_V.softmax(dim=-1)
    else:
        share_V, order_V = _likeliest_first(scaled_V.softmax(dim=-1), config.top_p)
    upto_V = share_V.cumsum(dim=-1)
    kept = int(((upto_V - share_V < config.top_p) & (share_V > 0)).sum())
    # One number a row and step, from the row's own generator: a batch draws what one by one draws.
    drawn_1 = torch.rand(1, generator=own).to(upto_V.device) * upto_V[kept - 1]
    place = int(torch.searchsorted(upto_V[:kept], drawn_1, right=True))
    return int(order_V[min(place, kept - 1)])


def _likeliest_first(share_V: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The shares in falling order, with their tokens: all, or the first that surely hold `top_p`."""
    if len(share_V) > FEW:  # to sort the whole of 8,192 takes a third of a token's time
        share, order = share_V.topk(FEW)
        if share.sum() > top_p + 1e-4:  # sums that are rounded in another order differ by less
            return share, order
    share, order = share_V.sort(descending=True, stable=True)
    return share, order
