"""`repartee doctor` while servers are up: the faults that it finds, and whether its remedies work."""

import os
import re
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from installation import ROOT, TINY, Shell, outcome, remedies, training, until

from deployments.local.processes import answers

pytestmark = [pytest.mark.soak, pytest.mark.flow]


@pytest.fixture(scope="module")
def shell(promoted, home, tmp_path_factory):
    return Shell(home, tmp_path_factory.mktemp("shell") / "bin")


@pytest.fixture
def patient(shell):
    """A healthy home with the first version as its champion, whatever other tests have left behind."""
    assert shell.shell("repartee promote 1").returncode == 0
    return shell


def test_what_is_up_is_healthy_and_everything_is_examined(patient):
    done = patient.shell("repartee doctor")
    assert done.returncode == 0, done.stdout
    unchecked = re.findall("not checked: (.*?):", done.stdout)
    assert {name for names in unchecked for name in names.split(", ")} <= {"gpu", "ports"}


def test_a_slot_that_nobody_holds_is_found_and_both_remedies_free_it(patient, api):
    deployment = api.get("/deployments/name/retrain/retrain")
    limit = f"deployment:{deployment['id']}"
    for mend in ("the command", "--fix"):
        api.get("/v2/concurrency_limits/increment", {"names": [limit], "slots": 1})
        found = patient.faults()
        assert (
            list(found) == ["slots"]
            and "1 of 4 concurrency slots of the deployment retrain" in found["slots"][0]["what"]
        )
        if mend == "--fix":
            assert patient.faults(words="--fix") == {}
        else:
            assert patient.shell(remedies(found)).returncode == 0
        assert patient.faults() == {}
    assert outcome(api.ending(api.trigger(TINY))) == "unchanged"


def test_runs_whose_process_is_gone_are_found_and_closed(patient, api, home):
    flow = api.get("/flows/name/retrain")["id"]
    forgotten = {"flow_id": flow, "name": "forgotten", "state": {"type": "RUNNING"}}
    flow_run = api.get("/flow_runs/", forgotten)["id"]
    (home / "locks" / f"flow-{flow_run}.lock").touch()
    database = sqlite3.connect(home / "mlflow.db")
    database.execute("update runs set status = 'RUNNING'")
    database.commit()
    found = patient.faults()
    assert list(found) == ["dead runs"]
    assert {fault["what"].split()[0] for fault in found["dead runs"]} == {"MLflow", "flow"}
    assert patient.shell(remedies(found)).returncode == 0
    assert patient.faults() == {}
    assert api.get(f"/flow_runs/{flow_run}")["state"]["type"] == "CRASHED"
    assert database.execute("select distinct status from runs").fetchall() == [("KILLED",)]


def test_a_deployment_and_an_automation_that_are_gone_are_found_and_created_again(patient, api):
    deployment = api.get("/deployments/name/evaluate/evaluate")
    api.get(f"/deployments/{deployment['id']}", method="DELETE")
    automation = api.get("/automations/filter", {})[0]
    api.get(f"/automations/{automation['id']}", method="DELETE")
    found = patient.faults()
    assert list(found) == ["deployments"]
    assert "evaluate/evaluate" in found["deployments"][0]["what"]
    assert automation["name"] in found["deployments"][1]["what"]
    assert patient.shell(found["deployments"][0]["remedy"]).returncode == 0
    assert patient.faults() == {}


def test_a_late_run_is_found_with_the_reason_and_the_remedy_lets_it_run(patient, api):
    api.get("/work_pools/repartee", {"is_paused": True}, method="PATCH")
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    due = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
    run = api.get(f"/deployments/{deployment}/create_flow_run", {"parameters": TINY, "state": state})["id"]
    found = patient.faults()
    assert list(found) == ["late runs"] and "pool repartee is paused" in found["late runs"][0]["what"]
    assert patient.shell(remedies(found)).returncode == 0
    assert outcome(api.ending(run)) == "unchanged"
    assert patient.faults() == {}


@pytest.fixture(scope="module")
def second(promoted, api):
    """Train and promote a second version; returns its number."""
    state = api.ending(api.trigger({**training(1, max_steps=11), "promote": "always"}))
    assert outcome(state) == "promoted", state
    return 2


def test_a_champion_whose_files_are_damaged_is_found_and_another_version_replaces_it(second, patient, home):
    assert patient.shell(f"repartee promote {second}").returncode == 0
    champion = max(
        (home / "mlartifacts").glob("**/models/*/artifacts/model.safetensors"), key=os.path.getmtime
    )
    weights = champion.read_bytes()
    champion.write_bytes(b"garbage")
    found = patient.faults()
    assert list(found) == ["champion"] and "model.safetensors" in found["champion"][0]["what"]
    assert remedies(found) == "repartee promote 1"
    assert "v1 is the champion now instead of v2" in patient.shell(remedies(found)).stdout
    assert patient.faults() == {}

    refused = patient.shell("repartee rollback")
    assert refused.returncode == 2 and "v2 cannot become the champion" in refused.stderr
    champion.write_bytes(weights)
    assert "v2 is the champion now" in patient.shell("repartee rollback").stdout
    assert "v1 is the champion now" in patient.shell("repartee promote 1 --why 'it is kinder'").stdout
    lines = patient.shell("repartee history").stdout.splitlines()
    assert [line.split()[3] for line in lines[1:6]] == ["v1", "v2", "v1", "v2", "v1"]
    assert lines[1].endswith("it is kinder")


def test_an_alias_that_was_moved_by_hand_is_found_and_its_remedy_writes_it_down(second, patient, home):
    database = sqlite3.connect(home / "mlflow.db")
    database.execute(f"update registered_model_aliases set version = {second} where alias = 'champion'")
    database.commit()
    found = patient.faults()
    assert list(found) == ["champion"] and "moved the alias manually" in found["champion"][0]["what"]
    assert patient.shell(remedies(found)).returncode == 0
    assert patient.faults() == {}


def test_a_server_that_pages_of_other_sites_can_use_is_found_and_its_remedy_closes_it(patient, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
    words = [sys.executable, "-m", "deployments.local.ephemeral_server", url, str(tmp_path)]

    def serve(**env):
        process = subprocess.Popen(words, cwd=ROOT, env={**patient.env, **env}, stdin=subprocess.PIPE)
        until(lambda: answers(f"{url}/health"))
        return process

    server = serve()
    try:
        found = patient.faults(PREFECT_API_URL=url)["cross-origin"]
        assert "accepts requests from the web pages of any site" in found[0]["what"]
        name, value = re.match(r"(\w+)=(\S+) prefect server start", found[0]["remedy"]).groups()
        server.kill()
        server.wait()
        server = serve(**{name: value})
        assert "cross-origin" not in patient.faults(PREFECT_API_URL=url)
    finally:
        server.kill()
        server.wait()
