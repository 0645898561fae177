"""`repartee up` as a user sees it, with real servers, a real worker and killed processes."""

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
from datetime import UTC, datetime, timedelta

import pytest
from installation import LONG, ROOT, TINY, ask, command, outcome, services, trainers, until

from flows.lifecycle.locks import holder, line_holder, my_turn, turn_of_line

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    """A home in which the first run trains."""
    return new_home(tmp_path_factory.mktemp("up"))


def test_it_says_where_everything_is_and_a_second_up_says_it_again(upped, home):
    assert "MLflow " in upped and "What now?" in upped
    assert "repartee status" in ask(home, "up")
    status = ask(home, "status")
    assert (
        "prefect" in status and "mlflow" in status and "worker" in status and "DOES NOT ANSWER" not in status
    )


def test_a_run_from_the_dashboard_promotes_a_model_and_links_to_mlflow(promoted, api, home):
    assert outcome(promoted) == "promoted"
    versions = json.loads(ask(home, "models", "--json"))["models"]
    assert [(row["version"], row["aliases"]) for row in versions] == [(1, ["champion"])]
    artifacts = api.get("/artifacts/filter", {})
    links = [each["data"] for each in artifacts if each["key"] == "repartee-mlflow"]
    assert links and links[0].startswith("[The run in MLflow](http://127.0.0.1:")
    last = json.loads(ask(home, "status", "--json"))
    assert last["champion"]["version"] == 1
    assert re.fullmatch("quick-sample #1.*: promoted v1", last["last_run"]["name"])


def test_the_logs_of_a_run_hold_counts_losses_and_the_verdict(promoted, api, home):
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_ASC"}
    run = api.get("/flow_runs/filter", wanted)[0]["id"]
    logs = api.get("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
    lines = "\n".join(each["message"] for each in logs)
    shown = ask(home, "logs", "quick-sample #1")
    for line in ("parse: 3,000 turns in ", "  loss ", "validation loss", "gate: promote ("):
        assert line in lines, lines
        assert line in shown, shown
    assert run in shown.splitlines()[0] and "Finished in state" not in shown
    assert shown.splitlines()[-1].endswith(
        "  Promoted: repartee v1 is the champion; there was no champion before"
    )


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"recipe": "huge"}, "recipe"),
        ({"corpus": "file:///etc/passwd"}, "corpus"),
        ({"minutes": -1}, "minutes"),
        ({"seed": -1}, "seed"),
        ({"settings": "train.learning_rate 0.1"}, "settings"),
        ({"settings": "download.corpus=https://h.org/films.zip?token=s3cr3t"}, "settings"),
    ],
)
def test_bad_parameters_are_refused_before_anything_starts_and_the_field_is_named(api, parameters, field):
    with pytest.raises(urllib.error.HTTPError) as refused:
        api.trigger(parameters)
    assert refused.value.code == 409
    assert f"'{field}'" in refused.value.read().decode()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"corpus": "/etc/passwd"}, "corpus '/etc/passwd': a deployed run reads only named corpora, http(s)"),
        (
            {"settings": "train.learning_rate=-1"},
            "settings: train.learning_rate: input should be greater than 0",
        ),
        ({"changes": {"train": {"learning_rat": 1}}}, "settings: train.learning_rat=1: there is no key"),
    ],
)
def test_a_run_with_parameters_that_cannot_be_used_ends_at_once_and_says_so_in_one_line(
    api, parameters, sentence
):
    run = api.trigger(parameters)
    ended = api.ending(run)
    assert ended["type"] == "FAILED" and ended["message"].startswith(sentence), ended["message"]
    assert "\n" not in ended["message"]
    assert api.get(f"/flow_runs/{run}")["run_count"] == 1
    assert api.get("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}) == []


def test_a_second_training_is_skipped_and_the_first_is_named(promoted, api, home):
    with turn_of_line(home, "repartee", "small-cornell"):
        began_s = time.monotonic()
        by_command = json.loads(ask(home, "run", "--recipe", "quick", "--json"))
        assert by_command["outcome"] == "skipped" and "small-cornell" in by_command["reason"]
        assert time.monotonic() - began_s < 10
        deployed = api.ending(api.trigger(TINY))
    assert outcome(deployed) == "skipped" and "small-cornell" in deployed["message"]


def test_a_run_of_another_line_waits_for_the_training_and_gets_its_own_champion(promoted, api, home):
    with my_turn(home, "small-cornell"):
        run = api.trigger({**TINY, "settings": "line=support-bot"})
        until(lambda: line_holder(home, "support-bot"))
        assert api.get(f"/flow_runs/{run}")["state"]["type"] == "RUNNING"
    ended = api.ending(run)
    assert ended["message"].startswith("Promoted: support-bot v1 is the champion"), ended["message"]
    models = json.loads(ask(home, "models", "--json"))
    assert models["line"] == "repartee" and models["lines"] == ["repartee", "support-bot"]
    assert json.loads(ask(home, "models", "--line", "support-bot", "--json"))["models"][0]["version"] == 1
    keys = {each["key"] for each in api.get("/artifacts/filter", {})}
    assert {"repartee-summary", "support-bot-summary"} <= keys


def test_a_cron_schedule_fires_on_its_minute_and_its_run_ends_well(promoted, api):
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    cron = {"cron": "* * * * *", "timezone": "Asia/Kolkata"}
    schedule = {"active": True, "schedule": cron, "parameters": TINY, "slug": "minutely"}
    created = api.get(f"/deployments/{deployment}/schedules", [schedule])
    wanted = {"flow_runs": {"tags": {"all_": ["auto-scheduled", "unchanged"]}}}
    try:
        run = until(lambda: api.get("/flow_runs/filter", wanted), 150)[0]
    finally:
        api.get(f"/deployments/{deployment}/schedules/{created[0]['id']}", method="DELETE")
    due, began = (datetime.fromisoformat(run[name]) for name in ("expected_start_time", "start_time"))
    assert due.second == 0
    # The worker picks up a run at most ten seconds early, because the run's process needs time to start.
    assert timedelta(seconds=-10) < began - due < timedelta(seconds=30)


def test_a_registered_model_is_scored_again_from_the_dashboard(promoted, api):
    run = api.trigger({"model": "champion"}, "evaluate/evaluate")
    assert api.ending(run)["type"] == "COMPLETED"
    [shown] = [each for each in api.get("/artifacts/filter", {}) if each["key"] == "evaluation"]
    assert "| bits per byte" in shown["data"]
    assert shown["description"] == "v1 on the test split of sample"


def test_new_data_of_a_prepare_run_start_a_training(promoted, api, home):
    changes = {name: TINY["changes"][name] for name in ("download", "vocabulary")}
    seed = {**changes, "download": {"sample_turns": 3000, "sample_seed": 9}}
    run = api.trigger({"recipe": "quick", "changes": seed}, "prepare/prepare")
    assert api.ending(run)["type"] == "COMPLETED"
    train = api.get("/deployments/name/retrain/train")["id"]
    wanted = {"flow_runs": {"deployment_id": {"any_": [train]}}}
    training = until(lambda: api.get("/flow_runs/filter", wanted))[0]
    assert training["parameters"] == {
        "recipe": "quick",
        "corpus": "sample",
        "settings": "download.sample_turns=3000, download.sample_seed=9, vocabulary.size=600",
    }
    until(lambda: holder(home) is not None, 60)
    api.get(f"/flow_runs/{training['id']}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(training["id"])["type"] == "CANCELLED"


def test_of_ten_missed_runs_the_newest_runs_and_the_others_say_so(promoted, api, home):
    worker = services(home)["worker"]["pid"]
    os.killpg(worker, signal.SIGSTOP)  # the worker is stopped, but not restarted
    try:
        deployment = api.get("/deployments/name/retrain/retrain")["id"]
        now = datetime.now(UTC)
        runs = []
        for minute in range(10, 0, -1):
            due = (now - timedelta(minutes=minute)).isoformat()
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
            missed = {"parameters": TINY, "state": state}
            runs.append(api.get(f"/deployments/{deployment}/create_flow_run", missed)["id"])
        options = command(home)
        env = {**options["env"], "PREFECT_API_URL": api.base, "PREFECT_HOME": str(home / "prefect")}
        subprocess.run([sys.executable, "-m", "deployments.install"], cwd=ROOT, env=env, check=True)
    finally:
        os.killpg(worker, signal.SIGCONT)
    ended = [api.ending(run) for run in runs]
    assert [state["name"] for state in ended] == ["Cancelled"] * 9 + ["Completed"]
    assert "skipped: this run was missed while the services were down" in ended[0]["message"]
    assert outcome(ended[-1]) == "unchanged"


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
    until(lambda: "resuming at step" in said.read_text())
    api.get(f"/flow_runs/{again}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(again)["type"] == "CANCELLED"
    until(lambda: holder(home) is None and not trainers(home))


@pytest.mark.parametrize("name", ["prefect", "mlflow", "worker"])
def test_a_service_that_is_killed_is_restarted(promoted, api, home, name):
    before = services(home)[name]["pid"]
    os.killpg(before, signal.SIGKILL)
    deadline_s = time.monotonic() + 60
    now = None
    while time.monotonic() < deadline_s and not (now and now["pid"] != before and now["healthy"]):
        time.sleep(0.5)
        now = services(home).get(name)
    assert now and now["pid"] != before and now["healthy"]
    if name == "worker":  # after the last service, everything works again
        assert outcome(api.ending(api.trigger(TINY))) == "unchanged"
