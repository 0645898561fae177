"""Measures the gain of a second core: steps in two halves, one per core, against whole steps on one core.

python -m benchmarks.cores RUN_DIR      writes the results to figures.json in this folder

A machine's speed may change within a minute, which would spoil a comparison of two consecutive runs.
Therefore one process alternates between ten whole steps and ten steps in halves. Ten whole steps and the
neighbouring ten steps in halves form a pair, whose ratio is the time of the whole steps divided by the time
of the steps in halves. The result is the median of all ratios. The first tenth of the pairs is left out,
because batch shapes that occur for the first time slow these steps down.
"""

import statistics
import sys
import threading
import time
from pathlib import Path

import torch

from models.training.checkpoint import put_json
from models.training.loop import Training
from models.training.run_folder import Run
from models.training.schedule import learning_rate_at
from models.training.step import GradientStep

PIECE = 10  # steps


def counted(whole_s: list[float], halves_s: list[float]) -> list[float]:
    """The ratio of each pair, without the first tenth of the pairs."""
    pairs = list(zip(whole_s, halves_s, strict=True))
    return [one / two for one, two in pairs[len(pairs) // 10 :]]


def main(folder: str) -> None:
    torch.set_num_threads(1)  # as models/training/trainer.py sets it on two cores
    run = Run.read(Path(folder))
    training = Training(run, threading.Event())
    halves, whole = training.step, GradientStep(training.model, training.examples, run.train, workers=1)
    whole.precision = halves.precision
    seconds: dict[GradientStep, list[float]] = {halves: [], whole: []}
    began_s, first = time.monotonic(), 0
    while time.monotonic() - began_s < 60 * (run.train.max_minutes or 1):
        for step in (halves, whole) if first % (2 * PIECE) else (whole, halves):
            piece_s = time.perf_counter()
            for number in range(first, first + PIECE):
                step.gradient(training.order[number % len(training.order)], seed=number)
                step.update(learning_rate_at(number, 0.0, run.train))
            seconds[step].append(time.perf_counter() - piece_s)
        first += PIECE
    gains = counted(seconds[whole], seconds[halves])
    figures = {
        "ratio": statistics.median(gains),
        "least": min(gains),
        "most": max(gains),
        "pieces": len(gains),
    }
    put_json(run.folder / "figures.json", figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
