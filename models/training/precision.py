"""The precision of a training: bfloat16 or float32, chosen by time on a CPU and by capability on a GPU."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from models.record import Record
from models.training import checkpoint

PRECISION = "precision.json"
PROBE_TOKENS = 1024
PROBE_MATMUL = (128, 256)  # rows, columns
HOPELESS = 3  # where a bf16 matmul takes this many times the seconds of an fp32 one, no bf16 step is tried
MIN_SPEEDUP = 1.1  # that bf16 must reach: between two close times, chance would choose


class PrecisionChoice(Record):
    """precision.json of a run folder: the precision of the training, and what it was chosen by."""

    precision: str
    seconds: dict[str, float] = {}
    """Seconds of a training step in each precision that was tried."""
    device: str | None = None
    """The type of the device that it was chosen for; null: it holds for any."""


def choose_precision(folder: Path, device: torch.device, probe: Callable[[str], float]) -> str:
    """`bf16` where it is faster on this device, else `fp32`; a run keeps what it began with on such a device.

    `probe` returns the seconds of a training step in a precision. The choice is recorded in precision.json.

    Raises:
        ValueError: the recorded choice is damaged.
    """
    path = folder / PRECISION
    if path.exists():
        recorded = PrecisionChoice.read(path)
        if recorded.device in (None, device.type):
            return recorded.precision
    if device.type != "cpu":
        # Before Ampere it is emulated, and slow; Apple's first GPUs do not have it.
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
    """Seconds of a training step of PROBE_TOKENS tokens in the chosen precision; none: not measured.

    Raises:
        FileNotFoundError, ValueError: no choice is recorded, or it is damaged.
    """
    choice = PrecisionChoice.read(folder / PRECISION)
    return choice.seconds.get(choice.precision) or None


def matmul_seconds(dtype: torch.dtype) -> float:
    """Seconds of a small matmul.

    A processor without instructions for bf16 takes a hundred times as long as for one of float32.
    """
    left, right = torch.ones(2, *PROBE_MATMUL, dtype=dtype)
    return fastest_seconds(lambda: torch.mm(left, right.T))


def fastest_seconds(work: Callable[[], object]) -> float:
    """Seconds of the fastest of three calls, after one that warms up."""
    work()
    seconds = []
    for _ in range(3):
        start_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start_s)
    return min(seconds)
