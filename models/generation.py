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

from models.config import GenerationConfig
from models.errors import InputError
from models.tokenizer import OURS, PAD, START, Control

# Colder than this is the likeliest token each time: dividing by it leaves nothing else.
GREEDY_BELOW = 1e-4
OVER = -1  # what a row that has ended goes on with: no id, since a vocabulary may need each of them
MAX_BATCH = 64


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
    """Replies of one model, decoder-only or encoder-decoder."""

    def __init__(self, model: PreTrainedModel, control: Control = OURS) -> None:
        self.control = control
        self.model: Any = model  # its forward takes what its family takes
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
        limits = [self._limit(context, config) for context in contexts]
        with evaluating(self.model):
            logits_BV, state = self._begin(contexts)
            ended = [False] * len(contexts)
            for made in range(1, max(limits) + 1):
                logits_BV = _allowed(logits_BV, self.control, first=made == 1)
                picked = _pick(logits_BV, config, generators)
                tokens = [OVER if over else token for over, token in zip(ended, picked, strict=True)]
                yield tokens
                ended = [
                    over or token == self.control.end or made == limit
                    for over, token, limit in zip(ended, tokens, limits, strict=True)
                ]
                if all(ended):
                    return
                logits_BV = self._advance(tokens, state)

    def _reply(self, tokens: list[int]) -> Reply:
        end = self.control.end
        return Reply([token for token in tokens if token not in (end, OVER)], end in tokens)

    def _limit(self, context: Sequence[int], config: GenerationConfig) -> int:
        """How many tokens the positions leave room for; the last one made takes no position."""
        if len(context) > self.context_positions:
            raise InputError(
                f"the context has {len(context)} tokens and the model reads "
                f"{self.context_positions} at most; shorten it"
            )
        room = self.positions if self.has_encoder else self.positions - len(context) + 1
        return min(config.max_tokens, room)

    def _begin(self, contexts: Sequence[Sequence[int]]) -> tuple[Tensor, dict[str, Any]]:
        """The first logits, and what the next step needs; this alone reads the contexts."""
        device = self.model.device
        longest = max(len(context) for context in contexts)

        def pads(context: Sequence[int]) -> list[int]:
            return [PAD] * (longest - len(context))  # 0, as a mask wants it; which id is masked is all one

        def ones(context: Sequence[int]) -> list[int]:
            return [1] * len(context)

        if self.has_encoder:
            ids_BT = torch.tensor([[*c, *pads(c)] for c in contexts], device=device)
            mask_BT = torch.tensor([[*ones(c), *pads(c)] for c in contexts], device=device)
            # The pads stand on the right: the encoder's own positions are right.
            encoded = self.model.get_encoder()(input_ids=ids_BT, attention_mask=mask_BT)
            state = {"encoder_outputs": (encoded.last_hidden_state,), "attention_mask": mask_BT}
            return self._forward(torch.full((len(contexts), 1), START, device=device), state), state
        # The pads stand on the left, so that each row's next token follows its last one.
        ids_BT = torch.tensor([[*pads(c), *c] for c in contexts], device=device)
        mask_BT = torch.tensor([[*pads(c), *ones(c)] for c in contexts], device=device)
        state = {"attention_mask": mask_BT, "position_ids": (mask_BT.cumsum(1) - 1).clamp(min=0)}
        return self._forward(ids_BT, state), state

    def _advance(self, tokens: Sequence[int], state: dict[str, Any]) -> Tensor:
        ids_B1 = torch.tensor(tokens, device=self.model.device)[:, None].clamp(min=0)
        if not self.has_encoder:
            mask_BT = state["attention_mask"]
            state["attention_mask"] = torch.cat([mask_BT, mask_BT.new_ones(len(tokens), 1)], dim=1)
            # A row that has ended goes on in step with the others, and stays within the positions.
            places_B1 = state["position_ids"][:, -1:] + 1
            state["position_ids"] = places_B1.clamp(max=self.positions - 1)
        return self._forward(ids_B1, state)

    def _forward(self, ids_BT: Tensor, state: dict[str, Any]) -> Tensor:
        """The last position's logits; the keys and values of all before are kept in `state`."""
        if self.has_encoder:
            out = self.model(decoder_input_ids=ids_BT, use_cache=True, **state)
        else:
            out = self.model(input_ids=ids_BT, use_cache=True, logits_to_keep=1, **state)
        state["past_key_values"] = out.past_key_values
        logits_BV: Tensor = out.logits[:, -1]
        return logits_BV


def _check(config: GenerationConfig) -> None:
    """Refuse what a config cannot hold, for one that was made without being checked."""
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature is {config.temperature}; give 0 or more")
    if not 0 < config.top_p <= 1:
        raise InputError(f"top_p is {config.top_p}; give more than 0 and at most 1")
    if config.max_tokens < 1:
        raise InputError(f"max_tokens is {config.max_tokens}; give 1 or more")


def chances(seed: int | None, row: int = 0) -> torch.Generator:
    """Where a reply's chances come from; on the CPU, so that a seed means the same everywhere."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed((seed + row) % 2**63)


def _allowed(logits_BV: Tensor, control: Control, *, first: bool) -> Tensor:
    """The logits with what a reply never holds, or never begins with, at minus infinity."""
    if not bool((logits_BV < math.inf).all()):  # false for NaN, too
        raise FloatingPointError("the model's logits are not finite: it is damaged; train it again")
    banned = [*control.banned, control.end] if first else [*control.banned]
    return logits_BV.float().index_fill(1, torch.tensor(banned, device=logits_BV.device), -math.inf)


def _pick(logits_BV: Tensor, config: GenerationConfig, generators: Sequence[torch.Generator]) -> list[int]:
    """One token a row: the likeliest, or one drawn from the likeliest that hold `top_p`."""
    if config.temperature < GREEDY_BELOW:
        greedy: list[int] = logits_BV.argmax(dim=-1).tolist()
        return greedy
    # Less the greatest first: a small temperature then makes -inf and not inf.
    scaled_BV = (logits_BV - logits_BV.amax(dim=-1, keepdim=True)) / config.temperature
    share_BV, order_BV = scaled_BV.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before_BV = share_BV.cumsum(dim=-1) - share_BV
    share_BV = share_BV.masked_fill(before_BV >= config.top_p, 0.0)
    upto_BV = share_BV.cumsum(dim=-1)
    # One number a row and step, from the row's own generator: a batch draws what one by one draws.
    drawn_B1 = torch.stack([torch.rand(1, generator=own) for own in generators]).to(upto_BV.device)
    place_B1 = torch.searchsorted(upto_BV, drawn_B1 * upto_BV[:, -1:], right=True)
    kept_B1 = (share_BV > 0).sum(dim=-1, keepdim=True)
    sampled: list[int] = order_BV.gather(1, place_B1.minimum(kept_B1 - 1))[:, 0].tolist()
    return sampled
