"""`repartee up` as a person meets it: real servers, a real worker, real deaths."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from installation import LONG, ROOT, TINY, Api, ask, command, go_up, left_of, services, trainers, until

from flows.turns import holder, holder_pid, my_turn

pytestmark = [pytest.mark.flow, pytest.mark.timeout(400)]


def test_it_says_where_everything_is_and_a_second_up_says_it_again(upped, home):
    assert "MLflow " in upped and "What now?" in upped
    assert "repartee status" in ask(home, "up")
    told = ask(home, "status")
    assert "prefect" in told and "mlflow" in told and "worker" in told and "DOES NOT ANSWER" not in told


def test_a_run_from_the_dashboard_promotes_a_model_and_links_to_mlflow(promoted, api, home):
    assert promoted["name"] == "Promoted", promoted
    versions = json.loads(ask(home, "models", "--json"))["models"]
    assert [(row["version"], row["aliases"]) for row in versions] == [(1, ["champion"])]
    artifacts = api.get("/artifacts/filter", {})
    links = [each["data"] for each in artifacts if each["key"] == "mlflow-run"]
    assert links and links[0].startswith("[the run in MLflow](http://127.0.0.1:")
    last = json.loads(ask(home, "status", "--json"))
    assert last["champion"]["version"] == 1 and last["last_run"]["state"] == "Promoted"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"recipe": "huge"}, "recipe"),
        ({"corpus": "file:///etc/passwd"}, "corpus"),
        ({"minutes": -1}, "minutes"),
        ({"changes": {"train": {"learning_rate": -1}}}, "changes.train.learning_rate"),
        ({"changes": {"train": {"learning_rat": 1}}}, "changes.train"),
    ],
)
def test_bad_parameters_are_refused_before_anything_starts_and_the_field_is_named(api, parameters, field):
    with pytest.raises(urllib.error.HTTPError) as refused:
        api.trigger(parameters)
    assert refused.value.code == 409
    assert f"'{field}'" in refused.value.read().decode()


def test_a_path_outside_of_the_home_is_refused_by_the_run(api):
    ended = api.ending(api.trigger({"corpus": "/etc/passwd"}))
    assert ended["type"] == "FAILED" and "files under REPARTEE_HOME" in ended["message"]


def test_a_second_training_is_skipped_and_the_first_is_named(promoted, api, home):
    with my_turn(home, "small-cornell"):
        began_s = time.monotonic()
        here = json.loads(ask(home, "run", "--recipe", "quick", "--json"))
        assert here["outcome"] == "skipped" and "small-cornell" in here["reason"]
        assert time.monotonic() - began_s < 10
        deployed = api.ending(api.trigger(TINY))
    assert deployed["name"] == "Skipped" and "small-cornell" in deployed["message"]


def test_a_schedule_makes_runs_and_they_run(promoted, api):
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    schedule = {"active": True, "schedule": {"interval": 5}, "parameters": TINY, "slug": "often"}
    made = api.get(f"/deployments/{deployment}/schedules", [schedule])
    wanted = {"flow_runs": {"state": {"name": {"any_": ["Unchanged"]}}, "tags": {"all_": ["auto-scheduled"]}}}
    try:
        assert until(lambda: api.get("/flow_runs/filter", wanted), 90), "no scheduled run has run"
    finally:
        api.get(f"/deployments/{deployment}/schedules/{made[0]['id']}", method="DELETE")


def test_a_registered_model_is_scored_again_from_the_dashboard(promoted, api):
    run = api.trigger({"model": "champion"}, "evaluate/evaluate")
    assert api.ending(run)["type"] == "COMPLETED"
    shown = [each["data"] for each in api.get("/artifacts/filter", {}) if each["key"] == "evaluation"]
    assert "| test_bpb |" in shown[0] and "v1 on the test split of sample" in shown[0]


def test_new_data_of_a_prepare_run_begin_a_training(promoted, api, home):
    changes = {name: TINY["changes"][name] for name in ("download", "vocabulary")}
    seed = {**changes, "download": {"sample_turns": 3000, "sample_seed": 9}}
    run = api.trigger({"recipe": "quick", "changes": seed}, "prepare/prepare")
    assert api.ending(run)["type"] == "COMPLETED"
    train = api.get("/deployments/name/retrain/train")["id"]
    wanted = {"flow_runs": {"deployment_id": {"any_": [train]}}}
    begun = until(lambda: api.get("/flow_runs/filter", wanted))[0]
    assert begun["parameters"]["recipe"] == "quick" and begun["parameters"]["corpus"] == "sample"
    until(lambda: holder(home) is not None, 60)
    api.get(f"/flow_runs/{begun['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(begun["id"])["type"] == "CANCELLED"


def test_of_ten_missed_runs_the_newest_runs_and_the_others_say_so(promoted, api, home):
    worker = services(home)["worker"]["pid"]
    os.killpg(worker, signal.SIGSTOP)  # it is away, and is not started again
    try:
        deployment = api.get("/deployments/name/retrain/retrain")["id"]
        now = datetime.now(UTC)
        runs = []
        for minute in range(10, 0, -1):
            due = (now - timedelta(minutes=minute)).isoformat()
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
            asked = {"parameters": TINY, "state": state}
            runs.append(api.get(f"/deployments/{deployment}/create_flow_run", asked)["id"])
        told = command(home)
        env = {**told["env"], "PREFECT_API_URL": api.base, "PREFECT_HOME": str(home / "prefect")}
        subprocess.run([sys.executable, "-m", "deployments.install"], cwd=ROOT, env=env, check=True)
    finally:
        os.killpg(worker, signal.SIGCONT)
    ended = [api.ending(run) for run in runs]
    assert [state["name"] for state in ended] == ["Skipped"] * 9 + ["Unchanged"]
    assert "missed while the services were down" in ended[0]["message"]


def test_cancelled_in_a_training_everything_is_free_in_15_seconds_and_the_next_run_goes_on(
    promoted, api, home
):
    run = api.trigger(LONG)
    checkpoint = until(lambda: list(home.glob("runs/*/checkpoints/0*")))[0]
    api.get(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    began_s = time.monotonic()
    assert api.ending(run)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))
    assert time.monotonic() - began_s < 15
    database = sqlite3.connect(home / "mlflow.db")
    assert database.execute("select count(*) from runs where status = 'RUNNING'").fetchone() == (0,)
    assert database.execute("select count(*) from runs where status = 'KILLED'").fetchone() == (1,)

    again = api.trigger(LONG)
    said = checkpoint.parents[1] / "stderr.log"
    until(lambda: "goes on at step" in said.read_text())
    api.get(f"/flow_runs/{again}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(again)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))


@pytest.mark.soak
@pytest.mark.parametrize(("victim", "end"), [("trainer", "FAILED"), ("flow", "CRASHED")])
def test_a_training_whose_trainer_or_flow_is_killed_ends_and_the_next_goes_on(
    promoted, api, home, victim, end
):
    longer = {**LONG, "minutes": 31 if victim == "trainer" else 32}
    run = api.trigger(longer)
    known = set(home.glob("runs/*"))
    work = until(
        lambda: [
            path.parents[1] for path in home.glob("runs/*/checkpoints/0*") if path.parents[1] not in known
        ]
    )[0]
    found = subprocess.run(["pgrep", "-f", f"models.training {work}"], capture_output=True, text=True).stdout
    os.kill(int(found.split()[0]) if victim == "trainer" else holder_pid(home), signal.SIGKILL)
    assert api.ending(run)["type"] == end
    until(lambda: holder(home) is None and not trainers(home))

    again = api.trigger(longer)
    until(lambda: "goes on at step" in (work / "stderr.log").read_text())
    assert api.get(f"/flow_runs/{run}")["state"]["type"] == end
    api.get(f"/flow_runs/{again}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(again)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))


@pytest.mark.parametrize("name", ["prefect", "mlflow", "worker"])
def test_a_service_that_is_killed_is_started_again(promoted, api, home, name):
    before = services(home)[name]["pid"]
    os.killpg(before, signal.SIGKILL)
    deadline_s = time.monotonic() + 60
    now = None
    while time.monotonic() < deadline_s and not (now and now["pid"] != before and now["healthy"]):
        time.sleep(0.5)
        now = services(home).get(name)
    assert now and now["pid"] != before and now["healthy"]
    if name == "worker":  # the last of them: everything works again
        assert api.ending(api.trigger(TINY))["name"] == "Unchanged"


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["supervisor", "everything"])
def test_killed_in_a_training_the_next_up_puts_all_in_order(tmp_path, victim):
    process, told = go_up(tmp_path)
    api = Api(re.search(r"Prefect +(\S+)", told)[1])
    run = api.trigger(LONG)
    until(lambda: list(tmp_path.glob("runs/*/checkpoints/0*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if victim == "everything":
        listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            if str(tmp_path) in line or "prefect.flow_engine" in line:
                with suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)
    until(lambda: not left_of(tmp_path) and holder(tmp_path) is None, 60)

    process, told = go_up(tmp_path)
    try:
        api = Api(re.search(r"Prefect +(\S+)", told)[1])
        assert api.get(f"/flow_runs/{run}")["state"]["type"] == "CRASHED"
        assert api.ending(api.trigger({**LONG, "minutes": 0.2}))["name"] == "Promoted", (
            "a lock or a slot is stuck"
        )
        assert json.loads(ask(tmp_path, "status", "--json"))["training"] is None
    finally:
        ask(tmp_path, "down")
        process.wait(30)
    assert not left_of(tmp_path)
