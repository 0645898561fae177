"""The state of a training run as stored in checkpoints, and the sums and rates for the lines of the logs."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

# A checkpoint's state.json uses the names on the right, so that training can also resume from checkpoints of
# earlier versions.
NAMES_ON_DISK = {
    "batch_index": "place",
    "num_validations": "looks",
    "last_epoch_log_step": "told_step",
    "last_reply_sample_tokens": "replied_tokens",
    "validations_since_best": "stale_looks",
    "log_sizes": "journal",
}


@dataclass
class TrainingState:
    """The progress of a training run: all that a checkpoint stores besides weights and optimizer state.

    The states of random generators are not stored, because each step seeds the generators with its own seed
    (`step_seed` in models/training/step.py).
    """

    step: int = 0
    epoch: int = 0
    batch_index: int = 0
    """Index of the next batch of this epoch."""
    num_validations: int = 0
    """How many of the evenly spaced validations had become due by the last validation."""
    validated_step: int = -1
    last_epoch_log_step: int = -1
    elapsed_s: float = 0.0
    validation_s: float = 0.0
    tokens: int = 0
    """Number of tokens trained on so far, without padding."""
    last_reply_sample_tokens: int = 0
    """The value of `tokens` when replies were last sampled."""
    best_bpb: float = math.inf
    best_step: int = 0
    validations_since_best: int = 0
    skipped: int = 0
    """Number of skipped steps: the loss was far too high, or the loss or gradient norm was not finite."""
    faults_in_a_row: int = 0
    rate_scale: float = 1.0
    """Factor applied to the learning rate; below 1 once training has diverged."""
    parts: int = 1
    """Number of micro-batches into which a batch is divided so that it fits into memory."""
    is_packed: bool = False
    """Whether the batches are packed (models/training/fast_path/packing.py)."""
    validation: dict[str, float] = field(default_factory=dict)
    """The last validation's loss, accuracy and bits per byte."""
    epoch_sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    window_sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    has_branched: bool = False
    """Whether the trunk of a night has been written, so that the cool-down is in progress."""
    log_sizes: dict[str, int] | None = None
    """Size of each log file in bytes when the checkpoint was written."""

    def to_json(self) -> dict[str, Any]:
        return {NAMES_ON_DISK.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        names = {on_disk: name for name, on_disk in NAMES_ON_DISK.items()}
        return cls(**{names.get(name, name): value for name, value in content.items()})


class MetricSums:
    """Sums of (nats, correct, reply tokens, gradient norm) over several steps, on the CPU."""

    def __init__(self, values: list[float]) -> None:
        # The sums are in float64, because a count in float32 would stop growing at 2**24. They are on the
        # CPU, because not every device supports float64.
        self.total = torch.tensor(values, dtype=torch.float64)

    def add(self, step_sums: Tensor) -> None:
        self.total += step_sums.cpu()

    def read(self) -> list[float]:
        values: list[float] = self.total.tolist()
        return values

    def clear(self) -> None:
        self.total.zero_()


class Throughput:
    """Measures the tokens per second since the last call of `read`, not counting the time in `paused`."""

    def __init__(self) -> None:
        self.tokens, self.since_s = 0, time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        paused_at_s = time.monotonic()
        yield
        self.since_s += time.monotonic() - paused_at_s

    def read(self) -> float:
        """Tokens per second since the last call."""
        now_s = time.monotonic()
        tokens_per_second = self.tokens / max(1e-9, now_s - self.since_s)
        self.tokens, self.since_s = 0, now_s
        return tokens_per_second


def step_line(
    state: TrainingState,
    sums: list[float],
    *,
    progress: float,
    num_batches: int,
    num_steps: int,
    rate: float,
    tokens_per_second: float,
) -> dict[str, Any]:
    """The line of metrics.jsonl for the last `num_steps` steps; an epoch has `num_batches` batches."""
    nats, correct, tokens, norm = sums
    return {
        "step": state.step,
        "epoch": state.epoch + state.batch_index / num_batches,
        "progress": progress,
        "loss": nats / max(1, tokens),
        "accuracy": correct / max(1, tokens),
        "learning_rate": rate,
        "grad_norm": norm / num_steps,
        "tokens_per_second": tokens_per_second,
        "seconds_left": state.elapsed_s * (1 - progress) / max(progress, 1e-6),
    }
