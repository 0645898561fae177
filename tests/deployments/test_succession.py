"""Of two hundred scheduled runs in fast succession, each one is accounted for, and no resource leaks."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from installation import PATIENCE_S, TINY, left_of, outcome, services, until

from flows.lifecycle.locks import holder

pytestmark = [pytest.mark.soak, pytest.mark.flow]
RUNS, EVERY_S = 200, 2
SLOWEST_RUN_S = (
    15  # a run that finds nothing new takes 4 s of processor time; this is only the end of patience
)


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


def are_due(api):
    """Whether RUNS runs have become due."""
    now = datetime.now(UTC)
    return sum(datetime.fromisoformat(run["expected_start_time"]) <= now for run in scheduled(api)) >= RUNS


def ended(api):
    """The runs of the schedule if all of them have ended, otherwise None."""
    runs = scheduled(api)
    return runs if all(run["end_time"] for run in runs) else None


def test_two_hundred_runs_in_fast_succession_are_all_accounted_for_and_nothing_grows(promoted, api, home):
    files, before = open_files(home), state_of(home)
    deployment = api.get("/deployments/name/retrain/retrain")["id"]
    schedule = {"active": True, "schedule": {"interval": EVERY_S}, "parameters": TINY, "slug": "often"}
    created = api.get(f"/deployments/{deployment}/schedules", [schedule])
    until(lambda: are_due(api), RUNS * EVERY_S + PATIENCE_S)
    api.get(f"/deployments/{deployment}/schedules/{created[0]['id']}", method="DELETE")  # and its later runs
    runs = until(lambda: ended(api), SLOWEST_RUN_S * RUNS)

    known = Counter(outcome(run["state"]) for run in runs)
    assert set(known) <= {"unchanged", "skipped"}, known
    assert known["unchanged"] >= RUNS / 10
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
