"""A training run that is killed at any change to its folder resumes and ends with the same bytes."""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import killings
import numpy as np
import pytest
from trainings import run_folder, timeless, weights

pytestmark = pytest.mark.soak
KNOBS = {"max_steps": 3, "checkpoint_seconds": 1e-9, "log_every": 1, "validations": 1}


def status_of(folder: Path, **how: Any) -> int | None:
    process = killings.start(folder, **how)
    process.join()
    return process.exitcode


def assert_same(folder: Path, expected: Path, expected_lines: Any) -> None:
    assert status_of(folder) == 0, expected_lines
    assert weights(folder) == weights(expected), expected_lines
    assert timeless(folder) == timeless(expected), expected_lines
    assert not list(folder.rglob(".tmp-*")), expected_lines


def test_killed_before_any_change_to_its_folder_it_goes_on_to_the_same_bytes(
    data: Path, tmp_path: Path
) -> None:
    expected = run_folder(data, tmp_path / "whole", **KNOBS)
    assert status_of(expected, counts_into=tmp_path / "count") == 0
    changes = int((tmp_path / "count").read_text())
    assert changes > 60
    for number in range(1, changes + 1):
        folder = run_folder(data, tmp_path / str(number), **KNOBS)
        assert status_of(folder, dies_at=number) == -signal.SIGKILL, number
        assert_same(folder, expected, number)


def test_killed_at_25_random_instants_it_goes_on_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4))
    rng = np.random.default_rng(seed)
    knobs: dict[str, Any] = {"network": {"dropout": 0.2}, "max_epochs": 3, "checkpoint_seconds": 1e-9}
    expected = run_folder(data, tmp_path / "whole", **knobs)
    began_s = time.monotonic()
    assert status_of(expected) == 0
    whole_s = time.monotonic() - began_s
    killed = 0
    for number in itertools.count():
        folder = run_folder(data, tmp_path / str(number), **knobs)
        began_s = time.monotonic()
        process = killings.start(folder)
        process.join(float(rng.uniform(0, whole_s)))
        if process.is_alive():
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        else:  # this run ended before the kill, because the machine has become faster
            whole_s = min(whole_s, time.monotonic() - began_s)
        assert_same(folder, expected, (seed, number))
        if killed == 25:
            return
