"""The schedule of a training run: its learning rate, its validations and its end.

All three depend on the progress, which is the completed share of the training run.
"""

import math

from models.training.config import TrainConfig
from models.training.state import TrainingState

WARMUP_SHARE = 0.1
STABLE_SHARE = 0.75  # of a night that goes on from a trunk; the cool-down takes the rest
VALIDATION_TIME_SHARE = 0.05  # of the elapsed time; beyond it, evenly spaced validations are postponed


def progress(state: TrainingState, num_steps: int, config: TrainConfig) -> float:
    """Completed share of the training run, measured in steps or in minutes, whichever share is larger."""
    by_time = state.elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(state.step / num_steps, by_time))


def learning_rate_at(
    step: int, progress: float, config: TrainConfig, *, stable_share: float | None = None
) -> float:
    """The learning rate of a step: a linear warm-up, then a linear decay that reaches 0 at progress 1.

    The warm-up takes at most a tenth of the training run. In a night, the decay begins at the progress
    `stable_share` and has the form 1 - sqrt (https://arxiv.org/abs/2405.18392).
    """
    warmup = max((step + 1) / max(1, config.warmup_steps), progress / WARMUP_SHARE)
    decay = max(0.0, 1.0 - progress)
    if stable_share is not None:
        decay = 1.0 - math.sqrt(max(0.0, progress - stable_share) / (1.0 - stable_share))
    return config.learning_rate * min(1.0, warmup) * decay


def is_validation_due(state: TrainingState, progress: float, config: TrainConfig) -> bool:
    """Whether to validate now, because the progress has reached the next evenly spaced validation.

    If `max_minutes` is set, a validation that is due is postponed as long as the validations so far have
    together taken more than their allowed share of the elapsed time.
    """
    in_time = not config.max_minutes or state.validation_s <= VALIDATION_TIME_SHARE * state.elapsed_s
    return state.step > 0 and int(progress * config.validations) > state.num_validations and in_time


def limit_reached(state: TrainingState, progress: float, num_steps: int, config: TrainConfig) -> str | None:
    """The setting whose limit ends training at this step; None if training continues."""
    if config.patience and state.validations_since_best >= config.patience:
        return "patience"
    if progress < 1:
        return None
    if state.step < num_steps:
        return "max_minutes"
    return "max_steps" if num_steps == config.max_steps else "max_epochs"
