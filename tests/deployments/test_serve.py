"""deployments/serve.py runs the deployments in one process, without a worker."""

import signal
import time

import pytest
from installation import LONG, TINY, Api, left_of, outcome, serve, until

from deployments.local.ephemeral_server import temporary_server
from flows.lifecycle.locks import holder

pytestmark = pytest.mark.flow


@pytest.fixture
def home(tmp_path, new_home):
    return new_home(tmp_path, trained=True)


def test_without_a_server_it_says_where_there_would_be_one(tmp_path):
    process = serve(tmp_path)
    assert process.wait(60) == 1
    assert "PREFECT_API_URL" in (tmp_path / "serve.log").read_text()


def test_triggered_runs_run_in_it_and_a_signal_ends_it(home):
    with temporary_server(home) as server:
        api = Api(server.wait().removesuffix("/api"))
        process = serve(home, PREFECT_API_URL=api.base)
        until(lambda: "serving the deployments" in (home / "serve.log").read_text())
        deployments = api.get("/deployments/filter", {})
        assert {each["name"] for each in deployments} == {"retrain", "train", "prepare", "evaluate"}
        retrain = api.get("/deployments/name/retrain/retrain")
        assert retrain["global_concurrency_limit"]["limit"] == 4
        assert retrain["concurrency_options"]["grace_period_seconds"] == 900
        assert [each["active"] for each in retrain["schedules"]] == [False]
        assert "corpus" in retrain["description"] and retrain["work_pool_name"] is None

        assert outcome(api.ending(api.trigger(TINY))) == "promoted"
        run = api.trigger(LONG)
        until(lambda: list(home.glob("runs/*/metrics.jsonl")) and holder(home))
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - began_s < 30
        assert holder(home) is None
        assert api.get(f"/flow_runs/{run}")["state"]["type"] == "CRASHED"
        assert not [line for line in left_of(home) if "deployments.local.ephemeral_server" not in line]
