"""Nights of a tiny model line, with real servers, processes and files: `repartee run --init trunk`."""

import json
import os
import shutil
import signal
import subprocess

import pytest
from installation import PATIENCE_S, tiny_command

from tasks.trunk.chain import Trunk, trunks

pytestmark = pytest.mark.flow


def command(home, *changes, verb="run", init="trunk", **env):
    return tiny_command(home, verb, *changes, options=("--init", init), **env)


def run(home, *changes, **options):
    done = subprocess.run(**command(home, *changes, **options), capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "progress": done.stderr}


def kill_at(home, line):
    """Start a night and kill all its processes when this line appears."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(**command(home), **options, start_new_session=True)
    printed = []
    for each in process.stderr:
        printed.append(each)
        if line in each:
            break
    else:
        raise AssertionError(f"ended before {line!r}: {printed}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def status_of(outcome, name):
    return next(stage["status"] for stage in outcome["stages"] if stage["name"] == name)


def trunk(home) -> Trunk:
    [found] = trunks(home)
    return found


def nights(home):
    return trunk(home).chain().nights


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def first(home):
    return run(home)


def test_the_first_night_is_promoted_and_leaves_a_trunk(first, home):
    assert first["outcome"] == "promoted"
    assert first["training"].startswith("night 1 of the trunk, 12 steps")
    assert [each.origin for each in nights(home)] == ["random weights", ""]
    assert trunk(home).damage(nights(home)[-1]) == ""
    assert "night 1 is complete" in first["progress"]


def test_the_same_command_is_the_next_night_whether_or_not_its_model_is_promoted(first, home, prefect):
    planned = {stage["name"]: stage for stage in run(home, verb="plan")["stages"]}
    assert (planned["train"]["action"], planned["train"]["why"]) == ("run", "the trunk changed")
    assert (planned["trunk"]["action"], planned["trunk"]["why"]) == ("run", "night 2")
    second = run(home, **prefect)
    assert second["training"].startswith("night 2 of the trunk")
    assert second["outcome"] in ("promoted", "refused")
    assert [each.stale for each in nights(home)] == [0, 0, 0]
    assert nights(home)[-1].parent == nights(home)[-2].digest


@pytest.mark.soak
def test_killed_at_any_stage_the_same_command_continues_the_night_and_begins_no_other(first, home):
    before = nights(home)
    for line in ("train: running", "evaluate: running", "gate: ", "register: writing"):
        kill_at(home, line)
        assert nights(home) == before
    ended = run(home)
    assert len(nights(home)) == len(before) + 1
    assert status_of(ended, "train") == "reused"
    outputs = [path for path in (home / "store" / "train").iterdir() if not path.name.startswith(".")]
    assert len(outputs) == len([each for each in nights(home) if each.fingerprint])


def test_killed_before_the_trunk_moved_the_same_command_only_moves_it(first, home, prefect):
    chain = trunk(home).folder / "trunk.json"
    before = chain.read_bytes()
    ended = run(home, **prefect)
    after = nights(home)
    chain.write_bytes(before)  # as if the run had been killed before it replaced this file
    planned = {stage["name"]: stage for stage in run(home, verb="plan")["stages"]}
    assert planned["trunk"]["why"].endswith("has been trained, but has not moved the trunk yet")
    again = run(home, **prefect)
    assert (again["outcome"], again["version"]) == ("unchanged", ended["version"])
    assert [each.digest for each in nights(home)] == [each.digest for each in after]


def test_a_line_that_has_converged_ends_as_unchanged_until_a_setting_changes(first, home, prefect):
    chain = trunk(home).folder / "trunk.json"
    content = json.loads(chain.read_text())
    content["nights"][-1]["stale"] = 2
    chain.write_text(json.dumps(content))
    ended = run(home)
    assert ended["outcome"] == "unchanged" and ended["reason"].startswith("converged: ")
    assert ended["flow_run_id"] is None, "a server was started"
    assert {stage["action"] for stage in run(home, verb="plan")["stages"]} == {"reuse"}
    count = len(nights(home))
    assert status_of(run(home, "train.learning_rate=0.01", **prefect), "train") == "ran"
    assert len(nights(home)) == count + 1


def test_the_plain_command_does_not_know_the_trunk(first, home, prefect):
    before = nights(home)
    ended = run(home, init="scratch", **prefect)
    assert status_of(ended, "train") == "ran" and "of the trunk" not in ended["training"]
    assert [stage["name"] for stage in run(home, init="scratch", verb="plan")["stages"]][-1] == "register"
    assert nights(home) == before


@pytest.mark.soak
def test_an_older_home_goes_on_from_its_champion_and_a_damaged_trunk_does_so_again(tmp_path):
    assert run(tmp_path, init="scratch")["version"] == 1
    ended = run(tmp_path)
    assert nights(tmp_path)[0].origin == "champion v1"
    assert "the nights begin with champion v1" in ended["progress"]
    shutil.rmtree(trunk(tmp_path).path(nights(tmp_path)[-1].folder) / "model")
    ended = run(tmp_path)
    [line] = [
        each for each in ended["progress"].splitlines() if "the nights begin again with champion" in each
    ]
    assert "is missing" in line
    assert ended["training"].startswith("night 1 of the trunk")
