"""The sample of the validation split that a training run scores; `max_minutes`, if set, limits its size."""

import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import PreTrainedModel

from models.data import batches
from models.evaluation import metrics
from models.training.config import TrainConfig
from models.training.precision import PROBE_TOKENS, probed_seconds
from models.training.run_folder import Run
from models.training.schedule import VALIDATION_TIME_SHARE
from models.training.step import GradientStep

# With these limits, a validation takes about as long as two or three training steps of 4,096 tokens.
MAX_TOKENS = 30_000
TOKEN_SHARE = 0.1  # tokens in the sample per token trained on between two validations
MIN_TOKENS = 2000
NIGHT_TOKENS = 100_000  # in the sample on which the nights of a trunk are compared; it takes some seconds
SCORING_SPEEDUP = 3  # scoring a token is about this many times as fast as training on it


def affordable_tokens(folder: Path, config: TrainConfig) -> float:
    """How many tokens can be scored, at the measured speed, in the share of `max_minutes` for validations."""
    seconds = probed_seconds(folder)
    if not config.max_minutes or not seconds:
        return math.inf
    return SCORING_SPEEDUP * PROBE_TOKENS / seconds * VALIDATION_TIME_SHARE * 60 * config.max_minutes


def subsample(
    table: pa.Table, num_steps: int, epoch_tokens: int, affordable: float, config: TrainConfig
) -> pa.Table:
    """Evenly spaced rows of the validation split, as many as one validation may score."""
    tokens_between = min(epoch_tokens, num_steps * config.batch_tokens // config.validations)
    limit = min(MAX_TOKENS, max(MIN_TOKENS, min(affordable, TOKEN_SHARE * tokens_between)))
    return _spaced(table, limit)


def _spaced(table: pa.Table, limit: float) -> pa.Table:
    """Evenly spaced rows with about `limit` tokens."""
    every = max(1, round(len(batches.Examples(table).ids) / limit))
    return table.take(np.arange(0, table.num_rows, every))


def sample(run: Run, num_steps: int, *, epoch_tokens: int) -> pa.Table:
    """The rows of the run's validation split that a training run of `num_steps` steps scores."""
    affordable = affordable_tokens(run.folder, run.train)
    table = batches.read_examples(run.examples, "validation")
    return subsample(table, num_steps, epoch_tokens, affordable, run.train)


def score(
    model: PreTrainedModel, examples: pa.Table, step: GradientStep
) -> tuple[float, float, float, float]:
    """Score examples in the precision of the training run: (loss, accuracy, bits per byte, seconds)."""
    began_s = time.monotonic()
    with step.autocast():
        found = metrics.score(model, examples)
    return found.nats / found.tokens, found.accuracy, found.bpb, time.monotonic() - began_s


def night_bpb(run: Run, model: PreTrainedModel, step: GradientStep) -> float:
    """The bits per byte on a sample of the validation split that depends on the data alone.

    The sample during training also depends on the speed of the machine, so its scores are not comparable
    between two nights.
    """
    examples = _spaced(batches.read_examples(run.examples, "validation"), NIGHT_TOKENS)
    return score(model, examples, step)[2]
