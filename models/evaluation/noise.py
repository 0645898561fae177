"""Noise: how much the scores of training runs differ that differ only in the seed.

`repartee noise` measures it. decisions/noise.jsonl in the home has a line for each measurement, and the gate
takes the newest one for the same recipe, corpus and kind of machine. Lines are only ever appended.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.evaluation.ledger import FOLDER
from models.json_lines import append_line, read_lines
from models.record import Record

FILE = "noise.jsonl"
FACTOR = 2 * math.sqrt(2)
"""The difference of two scores has a standard deviation of sqrt(2) times that of one score."""
RATIO = 1.0  # not measured (docs/decisions/0027-the-margin-is-the-measured-noise.md)
"""The noise of a training run with the whole budget, divided by that of a short run."""


class Machine(NamedTuple):
    """A kind of machine: all that decides the result of a computation besides the numbers."""

    device: str
    processor: str
    precision: str
    threads: int
    workers: int

    def text(self) -> str:
        threads = (
            f"{self.threads} x {self.workers} threads" if self.workers > 1 else f"{self.threads} threads"
        )
        return f"{self.processor or self.device}, {self.precision}, {threads}"


class Noise(Record):
    """A measurement."""

    at: str
    """The time of the measurement, in UTC and ISO 8601."""
    key: str
    """A digest of the corpus and of the settings that decide the training, without the seed."""
    recipe: str
    corpus: str
    machine: Machine
    share: float
    """The part of the budget for which each model was trained."""
    bpb: list[float]
    """The bits per byte of each model on the test split."""

    @property
    def deviation(self) -> float:
        """The standard deviation between seeds of models that are trained for the whole budget."""
        return RATIO * float(np.std(self.bpb, ddof=1))

    @property
    def margin(self) -> float:
        """By how many bits per byte a model must be better, so that the seed cannot be the reason."""
        return FACTOR * self.deviation


def append_noise(home: Path, noise: Noise) -> None:
    append_line(home / FOLDER / FILE, noise)


def find_noise(home: Path, key: str, machine: Machine) -> Noise | None:
    """The newest measurement for these settings on this kind of machine; None if there is none.

    One in the same precision takes precedence. The precision is chosen by a measurement of the speed, so it
    may change from run to run where two are equally fast, and it hardly changes the noise.
    """
    lines = [each for each in read_lines(home / FOLDER / FILE, Noise) if each.key == key]
    found = [each for each in lines if each.machine._replace(precision=machine.precision) == machine]
    exact = [each for each in found if each.machine == machine]
    return next(iter([*reversed(exact), *reversed(found)]), None)
