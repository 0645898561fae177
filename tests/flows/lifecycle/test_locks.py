"""One training at a time in a home, and one run of each model line; a dead run holds no lock."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.lifecycle.locks import (
    Busy,
    bury,
    dead_runs,
    holder,
    holder_pid,
    line_holder,
    my_turn,
    run_processes,
    stay_alive,
    turn_of_line,
)

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from flows.lifecycle.locks import stay_alive, turn_of_line
with turn_of_line(Path(sys.argv[1]), "first", "small-cornell"):
    stay_alive(Path(sys.argv[1]), "abc")
    print("held", flush=True)
    time.sleep(60)
"""
RUN_OF_LINE = """
import logging, sys
from pathlib import Path
from flows.lifecycle.locks import Busy, turn_of_line
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
try:
    with turn_of_line(Path(sys.argv[1]), sys.argv[2], "quick-sample"):
        print("trains", flush=True)
except Busy as busy:
    print(f"skipped: {busy}", flush=True)
"""


def start_run(home, line):
    return subprocess.Popen(
        [sys.executable, "-c", RUN_OF_LINE, str(home), line], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


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


def test_a_second_run_of_a_line_is_skipped_and_the_first_is_named(other, tmp_path):
    assert (
        start_run(tmp_path, "first").communicate(timeout=60)[0].startswith("skipped: small-cornell (process")
    )
    assert str(other.pid) in line_holder(tmp_path, "first")


def test_a_run_of_another_line_waits_for_the_training_and_says_so(other, tmp_path):
    waiting = start_run(tmp_path, "second")
    assert waiting.stdout.readline().startswith("waiting for another run to finish training: small-cornell")
    assert run_processes(tmp_path) == [waiting.pid, other.pid], "the runs that wait come first"
    assert str(waiting.pid) in line_holder(tmp_path, "second")
    assert start_run(tmp_path, "second").communicate(timeout=60)[0].startswith("skipped: quick-sample")
    other.kill()
    assert waiting.communicate(timeout=60)[0] == "trains\n"
    assert run_processes(tmp_path) == [] and line_holder(tmp_path, "second") is None


def test_lines_whose_names_differ_little_have_different_locks(tmp_path):
    with (
        turn_of_line(tmp_path / "a", "Support", "x"),
        turn_of_line(tmp_path / "b", "support", "x"),
    ):
        names = [path.name for home in "ab" for path in (tmp_path / home / "locks").glob("line-*.lock")]
    with turn_of_line(tmp_path / "c", "été / 夏 '\"" * 20, "x"):
        names += [path.name for path in (tmp_path / "c" / "locks").glob("line-*.lock")]
    assert len({name.lower() for name in names}) == 3


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
