"""One training run at a time in a home; a dead run holds no lock."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.lifecycle.locks import Busy, bury, dead_runs, holder, holder_pid, my_turn, stay_alive

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from flows.lifecycle.locks import my_turn, stay_alive
with my_turn(Path(sys.argv[1]), "small-cornell"):
    stay_alive(Path(sys.argv[1]), "abc")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which trains in the same home."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_training_is_refused_at_once_and_the_first_is_named(other, tmp_path):
    began_s = time.monotonic()
    with (
        pytest.raises(Busy, match=rf"small-cornell \(process {other.pid} on .+, since 20"),
        my_turn(tmp_path, "x"),
    ):
        pass
    assert time.monotonic() - began_s < 1
    assert str(other.pid) in (holder(tmp_path) or "")
    assert holder_pid(tmp_path) == other.pid
    assert dead_runs(tmp_path) == []


def test_a_killed_one_frees_its_turn_and_is_known_as_dead(other, tmp_path):
    other.kill()
    other.wait()
    assert holder(tmp_path) is None and holder_pid(tmp_path) is None
    assert dead_runs(tmp_path) == ["abc"]
    with my_turn(tmp_path, "x"):
        assert dead_runs(tmp_path) == ["abc"]
    bury(tmp_path, "abc")
    assert dead_runs(tmp_path) == []


def test_a_run_whose_end_is_recorded_is_not_known_as_dead(tmp_path):
    with my_turn(tmp_path, "x"):
        stay_alive(tmp_path, "run")
    assert dead_runs(tmp_path) == [], "a run whose process is alive counts as dead"
    bury(tmp_path, "run")
    assert dead_runs(tmp_path) == [] and not list((tmp_path / "locks").glob("flow-*"))
    assert holder(tmp_path) is None


def test_two_homes_do_not_see_each_other(other, tmp_path):
    with my_turn(tmp_path / "elsewhere", "x"):
        pass
