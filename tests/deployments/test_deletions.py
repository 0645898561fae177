"""If a user deletes the run of an active training process, training ends, its checkpoint is kept, and nothing
is promoted."""

import json

import pytest
from installation import ENDLESS, TINY, ask, services, trainers, training, until

from flows.lifecycle.locks import holder
from models.registry.runs import Tracking

pytestmark = [pytest.mark.soak, pytest.mark.flow]


def versions(home):
    return [model["version"] for model in json.loads(ask(home, "models", "--json"))["models"]]


def started_run(api, home, seed):
    """Start an endless training run, and wait for its first checkpoint; returns (Prefect run, folder)."""
    known = set(home.glob("runs/*"))
    run = api.trigger(training(seed, **ENDLESS))
    checkpoints = until(
        lambda: [path for path in home.glob("runs/*/checkpoints/0*") if known.isdisjoint(path.parents)]
    )
    return run, checkpoints[0].parents[1]


@pytest.mark.parametrize("server", ["MLflow", "Prefect"])
def test_a_training_whose_run_is_deleted_ends_within_a_minute_and_keeps_its_checkpoint(
    promoted, api, home, server
):
    before = versions(home)
    run, work = started_run(api, home, {"MLflow": 51, "Prefect": 52}[server])
    if server == "Prefect":
        api.get(f"/flow_runs/{run}", method="DELETE")
    else:
        tracking = Tracking(services(home)["mlflow"]["address"], None)
        tracking.client.delete_run(tracking.find_run(work.name).info.run_id)
    until(lambda: not trainers(home), 90)  # one minute, plus half a minute for a busy machine
    until(lambda: holder(home) is None)
    assert list(work.glob("checkpoints/0*/complete.json"))
    assert versions(home) == before
    if server == "MLflow":
        state = api.ending(run)
        assert state["type"] == "FAILED" and "was deleted during training" in state["message"]
    # The worker is still running, and the next run is not skipped.
    assert api.ending(api.trigger(TINY))["type"] == "COMPLETED"
