"""The choice of bfloat16 or float32 for a training run: by speed on a CPU, by capability on a GPU."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from models.record import Record
from models.training import checkpoint
from models.training.launch import PRECISION

PROBE_TOKENS = 1024
PROBE_MATMUL = (128, 256)  # rows, columns
HOPELESS = 3  # if a bf16 matmul takes this many times as long as an fp32 matmul, no bf16 step is timed
MIN_SPEEDUP = 1.1  # bf16 is chosen only if it is this many times as fast as fp32; less may be noise


class PrecisionChoice(Record):
    """The file precision.json in a run folder: the chosen precision, and the timings behind the choice."""

    precision: str
    seconds: dict[str, float] = {}
    """Seconds that a training step takes in each precision that was timed."""
    device: str | None = None
    """The device type for which the precision was chosen; null: the choice is valid for any device."""


def choose_precision(folder: Path, device: torch.device, probe: Callable[[str], float]) -> str:
    """`bf16` if it is fast on this device, otherwise `fp32`; a choice recorded for the device type is reused.

    `probe` takes a precision and returns the seconds that a training step takes in it. precision.json records
    the choice.

    Raises:
        ValueError: the recorded choice is damaged.
    """
    path = folder / PRECISION
    if path.exists():
        recorded = PrecisionChoice.read(path)
        if recorded.device in (None, device.type):
            return recorded.precision
    if device.type != "cpu":
        # GPUs before Ampere emulate bf16 slowly, and Apple's first GPUs do not support it.
        is_able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        seconds, chosen = {}, "bf16" if is_able else "fp32"
    else:
        seconds = {"fp32": probe("fp32")}
        if matmul_seconds(torch.bfloat16) < HOPELESS * matmul_seconds(torch.float32):
            seconds["bf16"] = probe("bf16")
        is_faster = seconds["fp32"] > MIN_SPEEDUP * seconds.get("bf16", math.inf)
        chosen = "bf16" if is_faster else "fp32"
    choice = PrecisionChoice(precision=chosen, seconds=seconds, device=device.type)
    checkpoint.put_json(path, choice.model_dump())
    return chosen


def probed_seconds(folder: Path) -> float | None:
    """Seconds that a step of PROBE_TOKENS tokens takes in the chosen precision; None if no time was measured.

    Raises:
        FileNotFoundError, ValueError: no choice is recorded, or the record is damaged.
    """
    choice = PrecisionChoice.read(folder / PRECISION)
    return choice.seconds.get(choice.precision) or None


def matmul_seconds(dtype: torch.dtype) -> float:
    """Seconds that a small matmul takes.

    On a processor without bf16 instructions, the matmul takes a hundred times as long in bf16 as in float32.
    """
    left, right = torch.ones(2, *PROBE_MATMUL, dtype=dtype)
    return fastest_seconds(lambda: torch.mm(left, right.T))


def fastest_seconds(work: Callable[[], object]) -> float:
    """Seconds that the fastest of three calls takes, after a warm-up call."""
    work()
    seconds = []
    for _ in range(3):
        start_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start_s)
    return min(seconds)
