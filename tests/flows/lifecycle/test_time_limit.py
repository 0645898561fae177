"""A run that takes longer than its time limit is interrupted, even while it waits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.lifecycle.time_limit import SECONDS_PER_HOUR, OutOfTime, time_limit

ROOT = Path(__file__).resolve().parents[3]


def test_a_body_that_waits_is_interrupted_at_the_limit():
    with pytest.raises(OutOfTime), time_limit(0.2 / SECONDS_PER_HOUR):
        time.sleep(600)


def test_a_body_that_ends_in_time_is_not_interrupted_later():
    before = signal.getsignal(signal.SIGUSR2)
    with time_limit(0.2 / SECONDS_PER_HOUR):
        pass
    assert signal.getsignal(signal.SIGUSR2) == before
    with time_limit(None):
        time.sleep(0.4)


@pytest.mark.flow
def test_a_run_at_its_limit_ends_as_failed_with_the_command_that_continues_it(tmp_path, new_home):
    words = ["run", "--recipe", "quick", "--set", "max_hours=0.0001"]
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(new_home(tmp_path))},
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, done.stderr
    assert last.startswith(
        "repartee: stopped after 0.0001 hours, the limit `max_hours` of this run; to continue"
    )
    assert last.endswith(": repartee run --recipe quick --set max_hours=0.0001")
