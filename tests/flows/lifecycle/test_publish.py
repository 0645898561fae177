"""A run as Prefect shows it: its state, its name, its tags and its message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.ephemeral_server import temporary_server
from flows.lifecycle.locks import turn_of_line
from flows.lifecycle.outcome import without_outcome

ROOT = Path(__file__).resolve().parents[3]
# This script does what a worker does with a run that was created in the dashboard.
RUN = """
import sys
from environment import quiet_environment
quiet_environment()
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from flows.retrain import retrain
with get_client(sync_client=True) as client:
    run = client.read_flow_run(sys.argv[1])
run_flow(retrain, flow_run=run, parameters=run.parameters, return_type="state")
"""
pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def client(tmp_path_factory, new_home):
    with (
        temporary_server(new_home(tmp_path_factory.mktemp("server"))) as server,
        temporary_settings({PREFECT_API_URL: server.wait()}),
        get_client(sync_client=True) as client,
    ):
        yield client


def skipped(client, home, name, tags=(), **parameters):
    """A run with this name, in a home where another run is training."""
    from flows.retrain import retrain

    given = {"recipe": "quick", **parameters}
    created = client.create_flow_run(retrain, parameters=given, name=name, tags=tags)
    with turn_of_line(home, "repartee", "small-cornell"):
        again(client, home, created.id)
    return created.id


def again(client, home, flow_run_id):
    env = {**os.environ, "REPARTEE_HOME": str(home), "PREFECT_API_URL": str(client.api_url)}
    subprocess.run([sys.executable, "-c", RUN, str(flow_run_id)], cwd=ROOT, env=env, check=True)


def test_a_run_keeps_the_name_and_the_tags_that_it_was_given_and_the_outcome_follows(client, tmp_path):
    run = client.read_flow_run(skipped(client, tmp_path, "first night", ["nightly"]))
    assert run.name == "first night: skipped"
    assert set(run.tags) == {"nightly", "skipped", "quick", "sample", "repartee"}
    assert (run.state.type, run.state.name) == ("COMPLETED", "Completed")
    assert run.state.message.startswith("Skipped: another run of repartee is in progress")


def test_a_name_of_prefects_own_making_gives_way_to_the_recipe_and_the_corpus(client, tmp_path):
    run = client.read_flow_run(skipped(client, tmp_path, None))
    assert run.name == "quick-sample #1: skipped"


def test_a_run_that_an_older_form_has_scheduled_still_runs(client, tmp_path):
    changes = {"train": {"max_steps": "none", "patience": None}, "network": None}
    run = client.read_flow_run(skipped(client, tmp_path, None, changes=changes))
    assert run.state.name == "Completed" and run.name == "quick-sample #1: skipped"


def test_a_run_with_a_wrong_setting_ends_at_once_as_failed_with_one_sentence(client, tmp_path):
    for parameters in ({"settings": "train.sed=1"}, {"changes": {"train": {"sed": 1}}}):
        run = client.read_flow_run(skipped(client, tmp_path, None, **parameters))
        assert (run.state.type, run.state.name, run.run_count) == ("FAILED", "Failed", 1)
        assert (
            run.state.message
            == "settings: train.sed=1: there is no key 'train.sed', did you mean 'train.seed'?"
        )
        logs = client.read_logs(LogFilter(flow_run_id={"any_": [run.id]}))
        assert not [each.message for each in logs if "Traceback" in each.message]


@pytest.mark.parametrize("ending", ["promoted v12", "refused", "unchanged", "skipped"])
def test_the_outcome_of_an_earlier_end_is_taken_off_a_name(ending):
    assert without_outcome(f"first night: {ending}") == "first night"
    assert without_outcome(f"{ending}: mine") == f"{ending}: mine"
