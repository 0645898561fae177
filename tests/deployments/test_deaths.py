"""Deaths in the middle of a deployed training: each process on its own, and all of them at once."""

import json
import os
import re
import signal
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from installation import LONG, Api, ask, command, go_up, left_of, outcome, services, trainers, until

from flows.lineage import flatten
from flows.turns import holder, holder_pid

pytestmark = [pytest.mark.soak, pytest.mark.flow, pytest.mark.timeout(600)]


def begun(api, home, minutes):
    """A training that has written a checkpoint: (its run, its folder)."""
    known = set(home.glob("runs/*"))
    run = api.trigger({**LONG, "minutes": minutes})
    checkpoints = until(
        lambda: [path for path in home.glob("runs/*/checkpoints/0*") if path.parents[1] not in known]
    )
    return run, checkpoints[0].parents[1]


def cancel(api, home, run):
    api.get(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(run)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))


def databases_are_true(home):
    """Whole, nothing open that has ended, and no point of a curve twice."""
    for name in ("mlflow.db", "prefect/prefect.db"):
        database = sqlite3.connect(home / name)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database = sqlite3.connect(home / "mlflow.db")
    assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
    twice = "select key, step from metrics group by run_uuid, key, step having count(*) > 1"
    assert database.execute(twice).fetchall() == []


@pytest.mark.parametrize(("victim", "end"), [("trainer", "FAILED"), ("flow", "CRASHED")])
def test_a_training_whose_trainer_or_flow_is_killed_ends_and_the_next_goes_on(
    promoted, api, home, victim, end
):
    minutes = 31 if victim == "trainer" else 32
    run, work = begun(api, home, minutes)
    found = subprocess.run(["pgrep", "-f", f"models.trainer {work}"], capture_output=True, text=True).stdout
    os.kill(int(found.split()[0]) if victim == "trainer" else holder_pid(home), signal.SIGKILL)
    assert api.ending(run)["type"] == end
    until(lambda: holder(home) is None and not trainers(home))

    again = api.trigger({**LONG, "minutes": minutes})
    until(lambda: "goes on at step" in (work / "stderr.log").read_text())
    assert api.get(f"/flow_runs/{run}")["state"]["type"] == end
    cancel(api, home, again)


@pytest.mark.parametrize("victim", ["prefect", "mlflow"])
def test_a_training_outlives_the_death_of_a_server(promoted, api, home, victim):
    minutes = {"prefect": 1.0, "mlflow": 1.01}[victim]
    run, _ = begun(api, home, minutes)
    trainer = trainers(home)
    before = services(home)[victim]["pid"]
    os.killpg(before, signal.SIGKILL)
    until(lambda: services(home)[victim]["pid"] != before and services(home)[victim]["healthy"])
    assert trainer and trainers(home) == trainer, "the training did not outlive it"
    ended = api.ending(run)
    assert outcome(ended) in ("promoted", "refused")
    assert holder(home) is None
    databases_are_true(home)
    assert outcome(api.ending(api.trigger({**LONG, "minutes": minutes}))) == "unchanged"


def test_a_training_outlives_the_death_of_the_worker(promoted, api, home):
    run, _ = begun(api, home, 1.02)
    trainer = trainers(home)
    before = services(home)["worker"]["pid"]
    os.killpg(before, signal.SIGKILL)
    until(lambda: services(home)["worker"]["pid"] != before)
    assert trainer and trainers(home) == trainer, "the training did not outlive it"
    ended = api.ending(run, timeout_s=200)
    assert outcome(ended) in ("promoted", "refused")
    until(lambda: holder(home) is None and not trainers(home))
    assert outcome(api.ending(api.trigger({**LONG, "minutes": 1.02}))) == "unchanged"
    databases_are_true(home)


def test_a_killed_run_of_the_command_line_is_missed(promoted, api, home):
    words = [word for key, value in flatten(LONG["changes"]).items() for word in ("--set", f"{key}={value}")]
    process = subprocess.Popen(**command(home, "run", "--recipe", "quick", *words), start_new_session=True)
    until(lambda: holder(home) is not None and trainers(home))
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    run = until(lambda: api.get("/flow_runs/filter", running))[0]["id"]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert api.ending(run, timeout_s=200)["type"] == "CRASHED"


def test_a_long_run_of_the_command_line_is_not_taken_for_dead(promoted, api, home):
    changes = flatten(LONG["changes"])
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    told = json.loads(
        ask(home, "run", "--recipe", "quick", *words, "--set", "train.max_minutes=2", "--json", timeout_s=300)
    )
    assert told["outcome"] in ("promoted", "refused")
    states = api.get("/flow_run_states/?flow_run_id=" + told["flow_run_id"])
    assert "CRASHED" not in {state["type"] for state in states}
    assert api.get(f"/flow_runs/{told['flow_run_id']}")["state"]["type"] == "COMPLETED"


@pytest.mark.parametrize("victim", ["supervisor", "everything"])
def test_killed_in_a_training_the_next_up_puts_all_in_order(tmp_path, victim):
    process, told = go_up(tmp_path)
    api = Api(re.search(r"Prefect +(\S+)", told)[1])
    run = api.trigger(LONG)
    until(lambda: list(tmp_path.glob("runs/*/checkpoints/0*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if victim == "everything":
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"REPARTEE_HOME={tmp_path}\0".encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
    until(lambda: not left_of(tmp_path) and holder(tmp_path) is None, 60)

    process, told = go_up(tmp_path)
    try:
        api = Api(re.search(r"Prefect +(\S+)", told)[1])
        assert api.get(f"/flow_runs/{run}")["state"]["type"] == "CRASHED"
        assert outcome(api.ending(api.trigger({**LONG, "minutes": 0.2}))) == "promoted", (
            "a lock or a slot is stuck"
        )
        databases_are_true(tmp_path)
        assert json.loads(ask(tmp_path, "status", "--json"))["training"] is None
    finally:
        ask(tmp_path, "down")
        process.wait(30)
    assert not left_of(tmp_path)
