"""Processes are killed during a deployed training run: each process alone, and all of them at once.

No training run here ends before its test has acted, because the run is endless or is held by SIGSTOP.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess

import pytest
from installation import (
    ENDLESS,
    PATIENCE_S,
    TINY,
    Api,
    ask,
    command,
    go_up,
    held,
    kill_everything,
    left_of,
    outcome,
    services,
    settings,
    trainer_group,
    trainers,
    training,
    until,
)

from flows.lifecycle.locks import holder, holder_pid

pytestmark = [pytest.mark.soak, pytest.mark.flow]
# Each step writes a checkpoint, so even a fast machine needs seconds and can be held after the first steps.
LASTING = {**ENDLESS, "max_steps": 400, "checkpoint_seconds": 1e-9, "log_every": 1}
HEARTBEATS = 5  # sent every 30 s; three missed ones mark a run as crashed


def started_run(api, home, parameters, sign):
    """Start a training run and wait for a file that matches `sign`; returns (flow run, file)."""
    known = set(home.glob("runs/*"))
    run = api.trigger(parameters)
    signs = until(lambda: [path for path in home.glob(f"runs/*/{sign}") if known.isdisjoint(path.parents)])
    return run, signs[0]


def cancel(api, home, run):
    api.get(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(run)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))


def databases_are_true(home):
    """Assert that the databases are intact, no ended run is open and no point of a curve is stored twice."""
    for name in ("mlflow.db", "prefect/prefect.db"):
        database = sqlite3.connect(home / name)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database = sqlite3.connect(home / "mlflow.db")
    assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
    twice = "select key, step from metrics group by run_uuid, key, step having count(*) > 1"
    assert database.execute(twice).fetchall() == []


@pytest.fixture(autouse=True)
def _nothing_is_at_work(request):
    """Cancel the runs that a failed test has left running, so that the next test can train."""
    yield
    if "api" in request.fixturenames:
        api, home = request.getfixturevalue("api"), request.getfixturevalue("home")
        running = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
        for run in api.get("/flow_runs/filter", running):
            cancel(api, home, run["id"])


@pytest.mark.parametrize(("victim", "end"), [("trainer", "FAILED"), ("flow", "CRASHED")])
def test_a_training_whose_trainer_or_flow_is_killed_ends_and_the_next_goes_on(
    promoted, api, home, victim, end
):
    parameters = training({"trainer": 1, "flow": 2}[victim], **ENDLESS)
    run, checkpoint = started_run(api, home, parameters, "checkpoints/0*")
    if victim == "trainer":
        os.killpg(trainer_group(home), signal.SIGKILL)
    else:
        os.kill(holder_pid(home), signal.SIGKILL)
    assert api.ending(run)["type"] == end
    until(lambda: holder(home) is None and not trainers(home))

    again = api.trigger(parameters)
    until(lambda: "resuming at step" in (checkpoint.parents[1] / "stderr.log").read_text())
    assert api.get(f"/flow_runs/{run}")["state"]["type"] == end
    cancel(api, home, again)


@pytest.mark.parametrize("victim", ["prefect", "mlflow", "worker"])
def test_a_training_outlives_the_death_of_a_service(promoted, api, home, victim):
    parameters = training({"prefect": 3, "mlflow": 4, "worker": 5}[victim], **LASTING)
    before = services(home)[victim]["pid"]
    run, journal = started_run(api, home, parameters, "metrics.jsonl")
    os.killpg(before, signal.SIGKILL)
    length = journal.stat().st_size
    until(lambda: journal.stat().st_size > length)
    with held(home) as trainer:
        until(lambda: services(home)[victim]["pid"] != before and services(home)[victim]["healthy"])
        assert trainer_group(home) == trainer
    assert outcome(api.ending(run)) in ("promoted", "refused")
    until(lambda: holder(home) is None and not trainers(home))
    databases_are_true(home)
    assert outcome(api.ending(api.trigger(parameters))) == "unchanged"


def test_a_killed_run_of_the_command_line_is_missed(promoted, api, home):
    words = settings(training(6, **ENDLESS)["changes"])
    process = subprocess.Popen(**command(home, "run", "--recipe", "quick", *words), start_new_session=True)
    until(lambda: holder(home) is not None and trainers(home))
    running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    (run,) = api.get("/flow_runs/filter", running)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert api.ending(run["id"])["type"] == "CRASHED"


def test_a_long_run_of_the_command_line_is_not_taken_for_dead(promoted, api, home):
    words = settings(training(7, **LASTING)["changes"])
    process = subprocess.Popen(
        **command(home, "run", "--recipe", "quick", *words, "--json"), stdout=subprocess.PIPE
    )
    with held(home):
        running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        (run,) = api.get("/flow_runs/filter", running)
        until(lambda: heartbeats(api, run["id"]) >= HEARTBEATS)
    result = json.loads(process.communicate()[0])
    assert result["outcome"] in ("promoted", "refused") and result["flow_run_id"] == run["id"]
    states = api.get("/flow_run_states/?flow_run_id=" + run["id"])
    assert "CRASHED" not in {state["type"] for state in states}
    assert api.get(f"/flow_runs/{run['id']}")["state"]["type"] == "COMPLETED"


def heartbeats(api, run):
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run}"]},
    }
    return api.get("/events/filter", {"filter": wanted})["total"]


@pytest.mark.parametrize("victim", ["supervisor", "everything"])
def test_killed_in_a_training_the_next_up_puts_all_in_order(tmp_path, victim):
    process, output = go_up(tmp_path)
    api = Api(re.search(r"Prefect +(http\S+)", output)[1])
    run, _ = started_run(api, tmp_path, training(0, **ENDLESS), "checkpoints/0*")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if victim == "everything":
        kill_everything(tmp_path)
    until(lambda: not left_of(tmp_path) and holder(tmp_path) is None)

    process, output = go_up(tmp_path)
    try:
        api = Api(re.search(r"Prefect +(http\S+)", output)[1])
        assert api.get(f"/flow_runs/{run}")["state"]["type"] == "CRASHED"
        assert outcome(api.ending(api.trigger(TINY))) == "promoted", "a lock or a slot is stuck"
        databases_are_true(tmp_path)
        assert json.loads(ask(tmp_path, "status", "--json"))["training"] is None
    finally:
        ask(tmp_path, "down")
        process.wait(PATIENCE_S)
    assert not left_of(tmp_path)
