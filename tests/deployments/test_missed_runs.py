"""Scheduled runs that were due while no worker was running: the newest of them starts, and a notice is sent."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from installation import ROOT, installed
from receiver import webhook

from deployments.worker import BEFORE_START

pytestmark = pytest.mark.flow
WORKER = "this-worker"


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def api(home):
    with installed(home) as api:
        yield api


@pytest.fixture
def missed(api):
    """An hourly schedule of another model line, several runs of which are late."""
    path = f"/deployments/{api.get('/deployments/name/retrain/retrain')['id']}"
    parameters = {"recipe": "quick", "settings": "line=support-bot"}
    schedule = {"slug": "hourly", "active": True, "schedule": {"interval": 3600}, "parameters": parameters}
    (created,) = api.get(f"{path}/schedules", [schedule])
    now = datetime.now(UTC)
    span = {"start_time": str(now - timedelta(minutes=205)), "end_time": str(now - timedelta(minutes=15))}
    api.get(f"{path}/schedule", {**span, "min_runs": 0})
    yield created["id"]
    api.get(f"{path}/schedules/{created['id']}", method="DELETE")


def states(api, schedule):
    """The names of the states of the late runs of a schedule, in the order of their times."""
    wanted = {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs = [run for run in api.get("/flow_runs/filter", wanted) if run["created_by"]["id"] == schedule]
    due = [run for run in runs if datetime.fromisoformat(run["expected_start_time"]) < datetime.now(UTC)]
    return [run["state"]["name"] for run in due]


def start_worker(home, api, address):
    """What a worker does before it starts."""
    env = {
        **os.environ,
        "REPARTEE_HOME": str(home),
        "PREFECT_API_URL": api.base,
        "REPARTEE_NOTICE_URL": address,
    }
    command = [sys.executable, "-c", BEFORE_START, WORKER]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)


def test_a_lone_worker_starts_the_newest_missed_run_only_and_a_notice_says_so(api, home, missed):
    before = states(api, missed)
    assert len(before) >= 2 and set(before) <= {"Scheduled", "Late"}
    with webhook() as receiver:
        start_worker(home, api, f"http://127.0.0.1:{receiver.server_port}")
    *older, newest = states(api, missed)
    assert set(older) == {"Cancelled"} and newest in ("Scheduled", "Late")
    (received,) = receiver.notices
    assert (received["outcome"], received["line"]) == ("missed", "support-bot")
    assert f"schedule hourly: {len(before)} runs were missed while the services were down" in received["text"]


def test_a_worker_beside_another_one_cancels_nothing(api, home, missed):
    before = len(states(api, missed))
    api.get("/work_pools/repartee/workers/heartbeat", {"name": "another-worker"})
    with webhook() as receiver:
        start_worker(home, api, f"http://127.0.0.1:{receiver.server_port}")
    assert set(states(api, missed)) <= {"Scheduled", "Late"} and len(states(api, missed)) == before
    assert receiver.notices == []
