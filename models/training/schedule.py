"""The schedule of a training run: its learning rate, its validations and its end.

All three depend on the progress, which is the completed share of the training run. If `max_minutes` is set,
the progress depends on the elapsed time, so the schedule is different each time. A run that repeats an
earlier one therefore gets the times of the earlier run: elapsed.txt has the elapsed seconds at each step, and
metrics.jsonl the seconds that each validation took.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from models.metrics_log import ELAPSED, METRICS, VALIDATION, of_kind
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


@dataclass
class Clock:
    """Measures the elapsed time, or repeats the times of an earlier training run."""

    steps: Sequence[float] = ()
    """The elapsed seconds at each step of the earlier training run."""
    validations: Mapping[int, float] = field(default_factory=dict)
    """The seconds that each validation of the earlier training run took, by step."""
    now_s: float = 0.0

    @classmethod
    def of(cls, replay: Path | None) -> Self:
        """
        Args:
            replay: the folder with the logs of the training run to repeat; None: the time is measured.
        """
        if replay is None:
            return cls()
        lines = [json.loads(line) for line in (replay / METRICS).read_text().splitlines()]
        scored = of_kind(lines, VALIDATION)
        validations = {line["step"]: line["seconds"] for line in scored if "seconds" in line}
        return cls(read_elapsed(replay), validations)

    def start(self) -> float:
        self.now_s = time.monotonic()
        return self.now_s

    def advance(self, state: TrainingState) -> None:
        """Add the time since the last call to the elapsed time of the training run."""
        before_s = self.now_s
        state.elapsed_s += self.start() - before_s

    def at_step(self, step: int, measured_s: float) -> float:
        return self.steps[step] if step < len(self.steps) else measured_s

    def of_validation(self, step: int, measured_s: float) -> float:
        return self.validations.get(step, measured_s)


def read_elapsed(logs: Path) -> list[float]:
    """The elapsed seconds at each step of a training run and at its end."""
    return [float(line) for line in (logs / ELAPSED).read_text().splitlines()]
