"""Measures the share of training time that checkpoints cost if one is written per minute.

python -m benchmarks.saves RUN_DIR      writes the results to figures.json in this folder

The training run writes a checkpoint every ten seconds, so that many of them can be measured. Writing a
checkpoint takes time, and the next ten steps are slower than other steps, because the disk is still busy and
the caches are cold. The cost of one checkpoint is the sum of the writing time and of the extra time of these
ten steps. The share is this cost divided by 60 s. Comparing a training run with checkpoints to one without
them would not work, because the machine's noise alone makes two runs differ by more than this cost.
"""

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.checkpoint import put_json
from models.training.loop import Training
from models.training.run_folder import Run

EVERY_SECONDS = 10.0
AFTER = 10  # the number of steps that a save may slow down


class Timed(Training):
    """A training run that records how long each step takes and how long each checkpoint takes to write."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.steps_s: list[float] = []
        self.saves: list[tuple[int, float]] = []  # (steps before the save, seconds)

    def train_step(self, rows: NDArray[np.int64], rate: float) -> None:
        began_s = time.perf_counter()
        super().train_step(rows, rate)
        self.steps_s.append(time.perf_counter() - began_s)

    def save(self) -> None:
        began_s = time.perf_counter()
        super().save()
        self.saves.append((len(self.steps_s), time.perf_counter() - began_s))


def cost(steps_s: list[float], saves: list[tuple[int, float]]) -> tuple[float, float]:
    """The mean seconds that writing a checkpoint takes, and the mean extra seconds of the AFTER steps that
    follow it."""
    after = np.zeros(len(steps_s), dtype=bool)
    for step, _ in saves:
        after[step : step + AFTER] = True
    took = np.array(steps_s)
    slower_s = float((took[after].mean() - took[~after].mean()) * AFTER)
    return float(np.mean([seconds for _, seconds in saves])), slower_s


def main(folder: str) -> None:
    torch.set_num_threads(1)  # as models/training/trainer.py sets it on two cores
    run = Run.read(Path(folder))
    often = run.train.model_copy(update={"checkpoint_seconds": EVERY_SECONDS})
    training = Timed(replace(run, train=often), threading.Event())
    training.fit()
    saves = training.saves[:-1]  # no step follows the last save
    if not saves:
        sys.exit(f"no checkpoint was written within {run.train.max_minutes} minutes; raise train.max_minutes")
    save_s, slower_s = cost(training.steps_s, saves)
    figures = {"share": (save_s + slower_s) / 60, "save_s": save_s, "slower_s": slower_s, "saves": len(saves)}
    put_json(run.folder / "figures.json", figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
