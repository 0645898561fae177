"""The clock of a training run, whose schedule depends on the elapsed time if `max_minutes` is set.

The learning rate, the moments of the validations and the end of such a run are different each time. A run
that repeats an earlier one gets the times of the earlier run instead: elapsed.txt has the elapsed seconds at
each step, and metrics.jsonl the seconds that each validation took.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from models.metrics_log import ELAPSED, METRICS, VALIDATION, of_kind
from models.training.state import TrainingState


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
        validations = {line["step"]: line["seconds"] for line in of_kind(lines, VALIDATION)}
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
