"""A team's installation: the services of compose.yaml on PostgreSQL with logins, and the same runs as on SQLite.

The services run without containers. The tests need a PostgreSQL server and the extra `team`.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from installation import ENDLESS, PATIENCE_S, TINY, outcome, trainers, training, until
from team import FILLED, Team, authorization, postgres, query, status

from flows.lifecycle.locks import holder, turn_of_line

pytestmark = [pytest.mark.soak, pytest.mark.flow]

ADMIN = f"admin:{FILLED['MLFLOW_AUTH_ADMIN_PASSWORD']}"


@pytest.fixture(scope="module")
def cluster():
    with postgres() as folder:
        yield folder


@pytest.fixture(scope="module")
def team(cluster, tmp_path_factory):
    with_servers = Team(tmp_path_factory.mktemp("team"), cluster)
    try:
        for name in ("prefect", "mlflow"):
            with_servers.start(name)
        for name in ("prefect", "mlflow"):
            until(lambda name=name: with_servers.is_healthy(name))
        assert with_servers.start("install").wait(PATIENCE_S) == 0, with_servers.said("install")
        with_servers.start("worker")
        until(lambda: with_servers.is_healthy("worker"))
        yield with_servers
    finally:
        with_servers.end()


@pytest.fixture(scope="module")
def api(team):
    return team.api()


@pytest.fixture(scope="module")
def promoted(api):
    return api.ending(api.trigger(TINY))


def repartee(team, *words):
    return json.loads(team.run(sys.executable, "-m", "cli", *words, "--json"))


def mlflow_state(cluster, run):
    """The status of the MLflow run that belongs to a flow run."""
    tagged = f"select run_uuid from tags where key = 'prefect.flow_run_id' and value = '{run}'"
    ((state,),) = query(cluster, "mlflow", f"select status from runs where run_uuid in ({tagged})")
    return state


def started_run(api, team, parameters):
    """Start a training run and wait for its first checkpoint; returns (flow run, folder)."""
    known = set(team.home.glob("runs/*"))
    run = api.trigger(parameters)
    work = until(lambda: [path for path in team.home.glob("runs/*") if path not in known])[0]
    until(lambda: list(work.glob("checkpoints/0*")))
    return run, work


def cancel(api, run):
    api.get(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    assert api.ending(run)["type"] == "CANCELLED"


def test_without_its_login_neither_server_tells_anything_but_that_it_lives(team):
    flows = f"{team.prefect}/api/admin/version"
    experiments = f"{team.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    for address, login in ((flows, team.login), (experiments, ADMIN)):
        assert status(address) == 401 and status(address, "admin:password1234") == 401
        assert status(address, login) == 200
    assert status(f"{team.prefect}/api/health") == 200 and status(f"{team.mlflow}/health") == 200


def test_a_page_from_elsewhere_and_a_strange_host_name_are_refused(team):
    request = urllib.request.Request(
        f"{team.prefect}/api/health", headers={"Origin": "http://elsewhere.example"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") is None
    experiments = f"{team.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    strange = urllib.request.Request(
        experiments, headers={**authorization(ADMIN), "Host": "elsewhere.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(strange)
    assert refused.value.code == 403


def test_a_run_promotes_a_model_and_all_of_it_stands_in_the_two_databases(promoted, team, cluster):
    assert outcome(promoted) == "promoted"
    versions = repartee(team, "models")["models"]
    assert [(row["version"], row["aliases"]) for row in versions] == [(1, ["champion"])]
    assert query(cluster, "mlflow", "select name, version from model_versions") == [("repartee", 1)]
    run = promoted["state_details"]["flow_run_id"]
    stored = query(cluster, "prefect", f"select state_name from flow_run where id = '{run}'")
    assert stored == [("Completed",)]
    assert list((team.folder / "artifacts").rglob("model.safetensors"))
    assert not list(team.folder.rglob("*.db")), "something still writes to SQLite"
    assert repartee(team, "chat", "--once", "Hello.")["version"] == 1


def test_the_same_again_is_unchanged(promoted, api):
    assert outcome(api.ending(api.trigger(TINY))) == "unchanged"


def test_bad_parameters_are_refused_before_anything_starts(api):
    with pytest.raises(urllib.error.HTTPError) as refused:
        api.trigger({"minutes": -1})
    assert refused.value.code == 409 and "'minutes'" in refused.value.read().decode()


def test_a_second_training_is_skipped_and_the_first_is_named(promoted, api, team):
    with turn_of_line(team.home, "repartee", "small-cornell"):
        skipped = api.ending(api.trigger(TINY))
    assert outcome(skipped) == "skipped" and "small-cornell" in skipped["message"]


def test_a_schedule_makes_runs_and_they_run(promoted, api):
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    schedule = {"active": True, "schedule": {"cron": "* * * * *"}, "parameters": TINY, "slug": "often"}
    created = api.get(f"/deployments/{deployment}/schedules", [schedule])
    wanted = {"flow_runs": {"tags": {"all_": ["auto-scheduled", "unchanged"]}}}
    try:
        assert until(lambda: api.get("/flow_runs/filter", wanted))
    finally:
        api.get(f"/deployments/{deployment}/schedules/{created[0]['id']}", method="DELETE")


def test_cancelled_in_a_training_everything_is_free_and_the_next_run_goes_on(promoted, api, team, cluster):
    parameters = training(1, **ENDLESS)
    run, work = started_run(api, team, parameters)
    cancel(api, run)
    until(lambda: holder(team.home) is None and not trainers(team.home))
    assert mlflow_state(cluster, run) == "KILLED"
    again = api.trigger(parameters)
    said = work / "stderr.log"
    until(lambda: "resuming at step" in said.read_text())
    cancel(api, again)
    until(lambda: holder(team.home) is None and not trainers(team.home))


def test_a_worker_that_is_ended_during_a_training_leaves_a_checkpoint_and_no_run_open(
    promoted, api, team, cluster
):
    parameters = training(2, **ENDLESS)
    run, work = started_run(api, team, parameters)
    began_s = time.monotonic()
    team.running["worker"].terminate()
    assert team.running["worker"].wait(90) == 0, team.said("worker")
    assert (
        time.monotonic() - began_s < 90
    )  # as in compose.yaml (stop_grace_period) and the unit (TimeoutStopSec)
    assert not trainers(team.home) and holder(team.home) is None
    assert api.get(f"/flow_runs/{run}")["state"]["type"] == "CRASHED"
    assert mlflow_state(cluster, run) == "KILLED"

    team.start("worker")
    again = api.trigger(parameters)
    until(lambda: "resuming at step" in (work / "stderr.log").read_text())
    cancel(api, again)


def test_up_with_both_servers_configured_starts_a_worker_alone_and_names_the_dashboard(team, tmp_path):
    options = team.surroundings("worker", log=False)
    options["env"]["REPARTEE_HOME"] = str(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "up"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("Up in"):
            break
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert f"  {team.prefect}/deployments " in output, output
    assert f"  {team.mlflow}/#/experiments?workflowType=machine_learning " in output, output
    assert {path.stem for path in (tmp_path / "services").glob("*.log")} == {"install", "worker"}
