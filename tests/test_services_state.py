"""Tests of the state of a home's services, including concurrent readers and services that are starting."""

import fcntl
import json
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from deployments.local.supervisor import await_up
from services_state import ServiceState, SupervisorState, last_state, running_services, write_state
from settings import Settings


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = SupervisorState(7, {"mlflow": ServiceState(8, "http://127.0.0.1:5000", "", starting=True)})
    write_state(tmp_path, state)
    assert last_state(tmp_path) == state
    assert running_services(tmp_path) is None, "nobody holds the lock"
    assert [path.name for path in (tmp_path / "services").iterdir()] == ["state.json"]


def test_a_home_whose_lock_another_process_tests_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "state.json").write_text('{"pid": 1, "services": {}}')
    assert running_services(tmp_path) is None
    with (tmp_path / "services" / "up.lock").open("w") as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert running_services(tmp_path) is None
        fcntl.flock(another, fcntl.LOCK_EX)
        assert running_services(tmp_path) == SupervisorState(pid=1)


def test_a_server_that_is_starting_is_not_used_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path))
    (tmp_path / "services").mkdir()
    state = tmp_path / "services" / "state.json"
    service = {"pid": 1, "address": "http://127.0.0.1:1", "health": "http://127.0.0.1:1/health"}

    def says(starting: bool) -> None:
        services = {name: {**service, "starting": starting} for name in ("prefect", "mlflow")}
        state.with_suffix(".new").write_text(json.dumps({"pid": 1, "services": services}))
        state.with_suffix(".new").replace(state)

    with FileLock(tmp_path / "services" / "up.lock"):
        says(starting=True)
        assert Settings().tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
        assert Settings().prefect_url is None
        is_up = threading.Timer(0.5, says, [False])
        is_up.start()
        await_up(tmp_path)
        is_up.join()
        assert Settings().tracking_uri == "http://127.0.0.1:1"
        assert Settings().prefect_url == "http://127.0.0.1:1/api"
