"""Progress: a run from config.json to model folder, where it stands, and what it tells on the way."""

import json
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.data.batches import Examples
from models.training import checkpoint
from models.training.config import TrainConfig

VALIDATION_TOKENS = 30_000  # a look costs about as much as two or three steps of 4,096 tokens
LOOK_SHARE = 0.1  # of the tokens trained on between two looks; by SCORING_GAIN
TIME_SHARE = 0.05  # of the minutes, for the looks between the epochs' ends
PROBE_TOKENS = 1024
PROBE_PRODUCT = (128, 256)  # rows, columns
HOPELESS = 3  # times the seconds of a product in fp32: a step in bf16 is not tried
SCORING_GAIN = 3  # scoring is so much faster than training
PROBE_GAIN = 1.1  # bf16 has to be this much faster: two close ones would be chosen by chance


@dataclass
class State:
    """Where a training stands; with the weights and the chances, all that a checkpoint needs."""

    step: int = 0
    epoch: int = 0
    place: int = 0  # the next batch of this epoch
    looks: int = 0  # at validation, of the evenly spaced ones
    validated_step: int = -1
    told_step: int = -1  # of the last epoch line
    elapsed_s: float = 0.0
    validation_s: float = 0.0
    tokens: int = 0  # read so far, padding not counted
    replied_tokens: int = 0  # of these, when the replies were looked at last
    best_bpb: float = math.inf
    best_step: int = 0
    stale_looks: int = 0  # at validation since the best one
    skipped: int = 0  # steps whose gradient was of no use
    faults_in_a_row: int = 0
    rate_scale: float = 1.0  # lower in a training that had led nowhere
    parts: int = 1  # of a batch, as the memory asks for
    is_packed: bool = False  # its batches are those of models/training/packing.py
    validation: dict[str, float] = field(default_factory=dict)  # the last score
    epoch_sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    window_sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    journal: dict[str, int] | None = None


class Sums:
    """(nats, correct, reply tokens, gradient norm) over steps, which the caller has waited for."""

    def __init__(self, values: list[float]) -> None:
        # In float32 a count would stop at 2**24, and not every device has float64.
        self.total = torch.tensor(values, dtype=torch.float64)

    def add(self, told: Tensor) -> None:
        self.total += told.cpu()

    def read(self) -> list[float]:
        values: list[float] = self.total.tolist()
        return values

    def clear(self) -> None:
        self.total.zero_()


class Speed:
    """Tokens a second since it was last read, pauses not counted."""

    def __init__(self) -> None:
        self.tokens, self.since_s = 0, time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.since_s += time.monotonic() - began_s

    def read(self) -> float:
        now_s = time.monotonic()
        speed = self.tokens / max(1e-9, now_s - self.since_s)
        self.tokens, self.since_s = 0, now_s
        return speed


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the best of three, after one that warms up."""
    work()
    took = []
    for _ in range(3):
        began_s = time.perf_counter()
        work()
        took.append(time.perf_counter() - began_s)
    return min(took)


def share_done(state: State, steps: int, config: TrainConfig) -> float:
    """Share of the training that is done, by steps or by minutes, whichever ends it first."""
    by_time = state.elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(state.step / steps, by_time))


def is_look_due(state: State, done: float, config: TrainConfig) -> bool:
    """Whether to score the validation split here, evenly over the training and in its time."""
    in_time = not config.max_minutes or state.validation_s <= TIME_SHARE * state.elapsed_s
    return state.step > 0 and int(done * config.validations) > state.looks and in_time


def ended_by(state: State, done: float, steps: int, config: TrainConfig) -> str | None:
    """The limit that ends the training here, if one does."""
    if config.patience and state.stale_looks >= config.patience:
        return "patience"
    if done < 1:
        return None
    if state.step < steps:
        return "max_minutes"
    return "max_steps" if steps == config.max_steps else "max_epochs"


def affordable_tokens(folder: Path, config: TrainConfig) -> float:
    """How many tokens can be scored in the looks' share of the minutes, by what the probe took here."""
    told = json.loads((folder / "precision.json").read_text())
    seconds = told.get("seconds", {}).get(told["precision"])
    if not config.max_minutes or not seconds:
        return math.inf
    return SCORING_GAIN * PROBE_TOKENS / float(seconds) * TIME_SHARE * 60 * config.max_minutes


def thin(table: pa.Table, steps: int, epoch_tokens: int, affordable: float, config: TrainConfig) -> pa.Table:
    """Rows of the validation split at even distances, as many as a look may cost."""
    between = min(epoch_tokens, steps * config.batch_tokens // config.validations)
    limit = min(VALIDATION_TOKENS, max(2000, min(affordable, LOOK_SHARE * between)))
    every = max(1, round(len(Examples(table).ids) / limit))
    return table.take(np.arange(0, table.num_rows, every))


def step_line(
    state: State,
    sums: list[float],
    *,
    done: float,
    batches: int,
    every: int,
    rate: float,
    speed: float,
) -> dict[str, Any]:
    """The figures over the last `every` steps."""
    nats, correct, tokens, norm = sums
    return {
        "step": state.step,
        "epoch": state.epoch + state.place / batches,
        "progress": done,
        "loss": nats / max(1, tokens),
        "accuracy": correct / max(1, tokens),
        "learning_rate": rate,
        "grad_norm": norm / every,
        "tokens_per_second": speed,
        "seconds_left": state.elapsed_s * (1 - done) / max(done, 1e-6),
    }


def choose_precision(folder: Path, device: torch.device, probe: Callable[[str], float]) -> str:
    """bf16 where it is faster here; what a run began with on such a device it keeps."""
    path = folder / "precision.json"
    if path.exists():
        told = json.loads(path.read_text())
        if told.get("device", device.type) == device.type:
            return str(told["precision"])
    if device.type != "cpu":
        # Before Ampere it is emulated, and slow; Apple's first GPUs do not have it.
        is_able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        seconds, chosen = {}, "bf16" if is_able else "fp32"
    else:
        seconds = {"fp32": probe("fp32")}
        if product_seconds(torch.bfloat16) < HOPELESS * product_seconds(torch.float32):
            seconds["bf16"] = probe("bf16")
        is_faster = seconds["fp32"] > PROBE_GAIN * seconds.get("bf16", math.inf)
        chosen = "bf16" if is_faster else "fp32"
    checkpoint.put_json(path, {"precision": chosen, "seconds": seconds, "device": device.type})
    return chosen


def product_seconds(dtype: torch.dtype) -> float:
    """Of a small matrix product.

    A processor without instructions for bf16 takes a hundred times as long as for one of float32.
    """
    left, right = torch.ones(2, *PROBE_PRODUCT, dtype=dtype)
    return fastest(lambda: torch.mm(left, right.T))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of a step's chances: no state of theirs has to be kept for the next one."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
