"""Two hundred scheduled runs in fast succession: each is accounted for, and nothing grows."""

import sqlite3
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from installation import TINY, left_of, outcome, services, until

from flows.turns import holder

pytestmark = [pytest.mark.soak, pytest.mark.flow, pytest.mark.timeout(2400)]
RUNS, EVERY_S = 200, 3


def open_files(home):
    """Of each service, its process and those of its group."""
    found = Counter()
    groups = {service["pid"]: name for name, service in services(home).items()}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            group = int(stat.read_text().rpartition(")")[2].split()[2])
            found[groups.get(group, "")] += len(list((stat.parent / "fd").iterdir()))
        except OSError:
            continue  # it has ended
    del found[""]
    return found


def state_of(home):
    """What would grow: processes, locks."""
    return len(left_of(home)), sorted(path.name for path in (home / "locks").iterdir())


def ended(api):
    """The scheduled runs, once all have ended; by the time at which they were due."""
    asked = {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    pages = [api.get("/flow_runs/filter", asked | {"offset": offset}) for offset in (0, 200)]
    runs = pages[0] + pages[1]
    return runs if all(run["end_time"] for run in runs) else None


def test_two_hundred_runs_in_fast_succession_are_all_accounted_for_and_nothing_grows(promoted, api, home):
    files, before = open_files(home), state_of(home)
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    schedule = {"active": True, "schedule": {"interval": EVERY_S}, "parameters": TINY, "slug": "often"}
    made = api.get(f"/deployments/{deployment}/schedules", [schedule])
    time.sleep(RUNS * EVERY_S + 10)
    api.get(f"/deployments/{deployment}/schedules/{made[0]['id']}", method="DELETE")
    runs = until(lambda: ended(api), 300)

    told = Counter((run["state"]["message"] or "").partition(":")[0] for run in runs)
    assert len(runs) >= RUNS
    ended_well = [run for run in runs if run["state_name"] != "Cancelled"]
    assert {run["state_name"] for run in ended_well} == {"Completed"}, told
    assert {outcome(run["state"]) for run in ended_well} <= {"unchanged", "skipped"}, told
    assert told["Unchanged"] >= RUNS / 10, told
    cancelled = {run["state"]["message"] for run in runs if run["state_name"] == "Cancelled"}
    assert all("concurrency limit" in message for message in cancelled), cancelled
    due = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    gaps = {(later - sooner).total_seconds() for sooner, later in pairwise(due)}
    assert gaps == {EVERY_S}, f"a run is missing: {told}"

    assert holder(home) is None
    limit = api.get("/deployments/name/retrain/retrain")["global_concurrency_limit"]
    assert limit["active_slots"] == 0
    assert state_of(home) == before
    now = open_files(home)
    assert all(now[name] <= files[name] + 10 for name in files), (files, now)
    for name in ("mlflow.db", "prefect/prefect.db"):
        assert sqlite3.connect(home / name).execute("pragma integrity_check").fetchone() == ("ok",)
