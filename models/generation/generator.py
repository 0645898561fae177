"""Generation: a model's reply to a context, token by token.

This module does not use `model.generate`, so that a reply can be streamed, is never empty, never contains a
control token and never exceeds the model's positions. Greedy decoding gives the same ids as `generate` with
the same tokens suppressed.

Name suffixes are shapes: B batch, T tokens, V vocabulary, which may be reduced to the most likely tokens.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)

from models.errors import InputError
from models.generation.config import GenerationConfig
from models.network.llama.decoder import decoder_of
from models.text.tokenizer import DEFAULT_SPECIAL_TOKENS, START, SpecialTokens

# A temperature below this is treated as greedy decoding: only the likeliest token would have a probability.
GREEDY_BELOW = 1e-4
FINISHED = -1  # marks a finished row; it is not an id, because a vocabulary may use every id
MAX_BATCH = 64
NUM_CANDIDATES = 128  # the probabilities of this many tokens usually add up to top_p


@dataclass(frozen=True)
class Reply:
    """The ids of one reply without its <end>; `finished` says whether the model itself ended the reply."""

    ids: list[int]
    finished: bool


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards its former mode is restored."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


class Generator:
    """Generates replies of one model, decoder-only or encoder-decoder.

    A generator may hold a copy of the weights, so a new generator is needed after each training step.
    """

    def __init__(
        self, model: PreTrainedModel, special_tokens: SpecialTokens = DEFAULT_SPECIAL_TOKENS
    ) -> None:
        self.special_tokens = special_tokens
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
        """The ids of a reply as they are generated, without <end>.

        `generator` draws the random numbers; if it is None, a generator with the config's seed is used.

        Raises:
            InputError: the context is longer than the model's positions, or a setting is out of range.
            FloatingPointError: the model's logits are not finite.
        """
        for (token,) in self._steps([context_ids], config, [generator or reply_rng(config.seed)]):
            if token != self.special_tokens.end:
                yield token

    def reply(
        self,
        context_ids: Sequence[int],
        config: GenerationConfig,
        generator: torch.Generator | None = None,
    ) -> Reply:
        """The complete reply whose ids `stream` yields, and whether the model itself ended it.

        Raises:
            InputError, FloatingPointError: in the same cases as `stream`.
        """
        steps = self._steps([context_ids], config, [generator or reply_rng(config.seed)])
        return self._reply([token for (token,) in steps])

    def replies(self, contexts: Sequence[Sequence[int]], config: GenerationConfig) -> list[Reply]:
        """A reply to each context, in order; reply i is the same as from `reply` with the seed + i.

        Raises:
            InputError, FloatingPointError: in the same cases as `stream`.
        """
        results: list[Reply | None] = [None] * len(contexts)
        by_length = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
        for start in range(0, len(by_length), MAX_BATCH):
            rows = by_length[start : start + MAX_BATCH]
            rngs = [reply_rng(config.seed, i) for i in rows]
            steps = list(self._steps([contexts[i] for i in rows], config, rngs))
            for row, i in enumerate(rows):
                results[i] = self._reply([step[row] for step in steps])
        return [reply for reply in results if reply is not None]

    @torch.inference_mode()
    def _steps(
        self,
        contexts: Sequence[Sequence[int]],
        config: GenerationConfig,
        generators: Sequence[torch.Generator],
    ) -> Iterator[list[int]]:
        """In each step, yield one id per context, or FINISHED for a context whose reply has ended."""
        _check(config)
        limits = [self.limit(context, config) for context in contexts]
        with evaluating(self.model):
            logits_BV, next_logits = self._decoder.begin(contexts, max(limits) - 1)
            before = [[START]] * len(contexts) if self.has_encoder else contexts
            sequences = [list(ids) for ids in before]
            processors = _repetition_processors(config)
            ended = [False] * len(contexts)
            for length in range(1, max(limits) + 1):
                _check_finite(logits_BV)
                self._suppress(logits_BV, processors, sequences, first=length == 1)
                picked = _pick(logits_BV, config, generators)
                tokens = [FINISHED if over else token for over, token in zip(ended, picked, strict=True)]
                yield tokens
                ended = [
                    over or token == self.special_tokens.end or length == limit
                    for over, token, limit in zip(ended, tokens, limits, strict=True)
                ]
                if all(ended):
                    return
                tokens = [max(token, 0) for token in tokens]
                for sequence, token in zip(sequences, tokens, strict=True):
                    sequence.append(token)
                logits_BV = next_logits(tokens)

    def _reply(self, tokens: list[int]) -> Reply:
        end = self.special_tokens.end
        return Reply([token for token in tokens if token not in (end, FINISHED)], end in tokens)

    def _suppress(
        self, logits_BV: Tensor, processors: LogitsProcessorList, sequences: list[list[int]], *, first: bool
    ) -> None:
        """Set logits to minus infinity: of control tokens, of <end> at the start, and of repetitions."""
        unprocessed_BV = logits_BV.clone() if processors else logits_BV
        for row, ids in enumerate(sequences if processors else ()):
            ids_1T: Any = torch.tensor([ids], device=logits_BV.device)
            logits_BV[row] = processors(ids_1T, logits_BV[row : row + 1])[0]
        for token in (
            (*self.special_tokens.banned, self.special_tokens.end) if first else self.special_tokens.banned
        ):
            logits_BV[:, token] = -math.inf
            unprocessed_BV[:, token] = -math.inf
        if processors:
            # If every token would be a repetition, repetitions are allowed again.
            is_empty_B1 = (logits_BV == -math.inf).all(dim=-1, keepdim=True)
            torch.where(is_empty_B1, unprocessed_BV, logits_BV, out=logits_BV)

    def limit(self, context: Sequence[int], config: GenerationConfig) -> int:
        """The limit on the tokens of a reply, given by `max_tokens` and the model's positions.

        The last token of a reply takes no position, because it is never an input.

        Raises:
            InputError: the context is longer than the model's positions.
        """
        if len(context) > self.context_positions:
            raise InputError(
                f"the context has {len(context)} tokens, but the model reads "
                f"{self.context_positions} at most; shorten the context"
            )
        available = self.positions if self.has_encoder else self.positions - len(context) + 1
        return min(config.max_tokens, available)


def _repetition_processors(config: GenerationConfig) -> LogitsProcessorList:
    """The logits processors of transformers that make repetitions less likely or impossible.

    The context counts, too, but with an encoder-decoder only the decoder's input counts.
    """
    processors = LogitsProcessorList()
    if config.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(float(config.repetition_penalty)))
    if config.no_repeat_ngram:
        processors.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram))
    return processors


def _check(config: GenerationConfig) -> None:
    """Check the values, because a config may have been constructed without validation.

    Raises:
        InputError: a value is out of its range.
    """
    if not 0 <= config.temperature < math.inf:
        raise InputError(f"temperature is {config.temperature}; give 0 or more")
    if not 0 < config.top_p <= 1:
        raise InputError(f"top_p is {config.top_p}; give more than 0 and at most 1")
    if not 0 < config.repetition_penalty < math.inf:
        raise InputError(f"repetition_penalty is {config.repetition_penalty}; give more than 0")
    for name, least in {"max_tokens": 1, "top_k": 0, "no_repeat_ngram": 0}.items():
        if getattr(config, name) < least:
            raise InputError(f"{name} is {getattr(config, name)}; give {least} or more")


def reply_rng(seed: int | None, row: int = 0) -> torch.Generator:
    """A random generator for one reply, on the CPU, so that a seed gives the same numbers on every device."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed((seed + row) % 2**63)


def _check_finite(logits_BV: Tensor) -> None:
    # A single pass is enough: the maximum is NaN if any logit is NaN.
    if not bool(logits_BV.amax(dim=-1).isfinite().all()):
        raise FloatingPointError("the model's logits are not finite: the model is damaged; train it again")


def _pick(logits_BV: Tensor, config: GenerationConfig, generators: Sequence[torch.Generator]) -> list[int]:
    """One token per row: the most likely token, or a token sampled by temperature, `top_k` and `top_p`."""
    if config.temperature < GREEDY_BELOW:
        greedy: list[int] = logits_BV.argmax(dim=-1).tolist()
        return greedy
    return [_sample(logits_V, config, rng) for logits_V, rng in zip(logits_BV, generators, strict=True)]


def _sample(logits_V: Tensor, config: GenerationConfig, rng: torch.Generator) -> int:
    # Subtract the maximum first, so that a small temperature gives -inf instead of inf.
    scaled_V = (logits_V - logits_V.amax()) / config.temperature
    if config.top_k:
        scaled_V, order_V = scaled_V.topk(min(config.top_k, len(scaled_V)))
        probs_V = scaled_V.softmax(dim=-1)
    else:
        probs_V, order_V = _sort_by_probability(scaled_V.softmax(dim=-1), config.top_p)
    cumulative_V = probs_V.cumsum(dim=-1)
    num_candidates = int(((cumulative_V - probs_V < config.top_p) & (probs_V > 0)).sum())
    # Each row draws from its own generator, so that a batch draws the same numbers as single rows.
    drawn_1 = torch.rand(1, generator=rng).to(cumulative_V.device) * cumulative_V[num_candidates - 1]
    index = int(torch.searchsorted(cumulative_V[:num_candidates], drawn_1, right=True))
    return int(order_V[min(index, num_candidates - 1)])


def _sort_by_probability(probs_V: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The probabilities in descending order and their tokens, either all or enough to add up to `top_p`."""
    if len(probs_V) > NUM_CANDIDATES:  # sorting all of 8,192 tokens takes a third of the time per token
        probs, order = probs_V.topk(NUM_CANDIDATES)
        if probs.sum() > top_p + 1e-4:  # the margin is larger than the rounding error of the sum
            return probs, order
    probs, order = probs_V.sort(descending=True, stable=True)
    return probs, order
