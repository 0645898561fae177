"""Of two hundred scheduled runs in fast succession, each one is accounted for, and no resource leaks."""

import sqlite3
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from installation import PATIENCE_S, TINY, left_of, outcome, services, until

from flows.lifecycle.locks import holder

pytestmark = [pytest.mark.soak, pytest.mark.flow]
RUNS, EVERY_S = 200, 2


def open_files(home):
    """The number of open files of each service, counted over all processes of its group."""
    found = Counter()
    groups = {service["pid"]: name for name, service in services(home).items()}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            group = int(stat.read_text().rpartition(")")[2].split()[2])
            found[groups.get(group, "")] += len(list((stat.parent / "fd").iterdir()))
        except OSError:
            continue  # the process has ended
    del found[""]
    return found


def state_of(home):
    """The resources that could leak: the number of processes, and the lock files."""
    return len(left_of(home)), sorted(path.name for path in (home / "locks").iterdir())


def scheduled(api):
    """The runs of the schedule, in the order of the times at which they were due."""
    wanted = {"flow_runs": {"tags": {"all_": ["auto-scheduled"]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs: list = []
    while page := api.get("/flow_runs/filter", wanted | {"offset": len(runs)}):
        runs += page
    return runs


def enough(api):
    """Whether RUNS runs have ended, and a tenth of RUNS or more ended as `unchanged`."""
    ended = [run for run in scheduled(api) if run["end_time"]]
    return len(ended) >= RUNS and sum("unchanged" in run["tags"] for run in ended) >= RUNS / 10


def ended(api):
    """The runs of the schedule if all of them have ended, otherwise None."""
    runs = scheduled(api)
    return runs if all(run["end_time"] for run in runs) else None


def test_two_hundred_runs_in_fast_succession_are_all_accounted_for_and_nothing_grows(promoted, api, home):
    files, before = open_files(home), state_of(home)
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    schedule = {"active": True, "schedule": {"interval": EVERY_S}, "parameters": TINY, "slug": "often"}
    created = api.get(f"/deployments/{deployment}/schedules", [schedule])
    until(lambda: enough(api), 2 * RUNS * EVERY_S + PATIENCE_S)
    api.get(f"/deployments/{deployment}/schedules/{created[0]['id']}", method="DELETE")
    runs = until(lambda: ended(api))

    known = Counter(outcome(run["state"]) for run in runs)
    assert set(known) <= {"unchanged", "skipped"}, known
    due = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
    gaps = {(later - sooner).total_seconds() for sooner, later in pairwise(due)}
    assert gaps == {EVERY_S}, f"a run is missing: {known}"

    assert outcome(api.ending(api.trigger(TINY))) == "unchanged", "the turn is stuck"
    assert holder(home) is None
    limit = api.get("/deployments/name/retrain/retrain")["global_concurrency_limit"]
    assert limit["active_slots"] == 0
    until(lambda: state_of(home) == before)
    until(lambda: all(now <= files[name] + 10 for name, now in open_files(home).items()))
    for name in ("mlflow.db", "prefect/prefect.db"):
        assert sqlite3.connect(home / name).execute("pragma integrity_check").fetchone() == ("ok",)
