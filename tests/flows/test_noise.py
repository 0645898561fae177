"""`repartee noise` with real trainings, and the gate that takes its margin from it."""

import json
import subprocess

import pytest
from installation import PATIENCE_S, tiny_command

pytestmark = pytest.mark.flow

GROUPS = "clean.test_share=0.3"  # with fewer than eight test groups, the gate decides nothing


def call(home, verb, *changes, status=0, options=(), **env):
    given = tiny_command(home, verb, GROUPS, *changes, options=options)
    given["env"] |= env
    done = subprocess.run(**given, capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == status, done.stderr
    return {**(json.loads(done.stdout) if done.stdout else {}), "printed": done.stderr}


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def measured(home):
    return call(home, "noise")


def test_eight_seeds_are_trained_and_nothing_is_registered(measured, home):
    assert len(measured["bpb"]) == len(set(measured["bpb"])) == 8
    assert measured["margin"] == pytest.approx(2 * 2**0.5 * measured["deviation"])
    assert measured["machine"][1], "the processor has no name"
    assert not list((home / "store").glob("train/*")), "the short trainings are no outputs of runs"


def test_the_gate_takes_the_margin_from_the_measurement_and_says_so(measured, home, prefect):
    assert call(home, "run", "train.max_steps=2", **prefect)["outcome"] == "promoted"
    better = call(home, "run", **prefect)
    stated = "the noise between seeds that `repartee noise` measured"
    # The champion was trained with other settings, but the noise is that of the new model's settings.
    assert stated in better["reason"], better["reason"]
    assert call(home, "run", **prefect)["outcome"] == "unchanged"
    [decision] = [
        json.loads(line)
        for path in (home / "decisions").glob("repartee*.jsonl")
        for line in path.read_text().splitlines()
        if line
    ]
    assert decision["min_gain"] == pytest.approx(measured["margin"]) and stated.startswith(
        decision["margin_from"][:20]
    )


def test_a_trunk_is_refused_in_one_line(home):
    [line] = call(home, "noise", status=2, options=("--init", "trunk"))["printed"].splitlines()
    assert line == (
        "repartee: --init trunk: the noise between seeds is that of models without a trunk; give scratch"
    )
