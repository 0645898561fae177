"""Reconcile: what a dead run left open is closed, so that Prefect, MLflow and the locks say the truth."""

import logging
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from flows.lineage import Lineage
from flows.turns import bury, dead_runs

log = logging.getLogger(__name__)

GONE = "its process is gone; found at a later start"


def reconcile(run: Lineage) -> list[str]:
    """End the runs of this home that are not alive; by whoever has the turn. Says what it ended."""
    told = []
    if dead := dead_runs(run.home):
        with get_client(sync_client=True) as client:
            for flow_run_id in dead:
                told += _end(client, flow_run_id)
                bury(run.home, flow_run_id)
    told += [f"MLflow run {run_id}" for run_id in run.registry.close_dead(run.at)]
    for line in told:
        log.warning("%s was open and its process is gone: it is closed", line)
    return told


def _end(client: SyncPrefectClient, flow_run_id: str) -> list[str]:
    try:
        flow_run = client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
    except ObjectNotFound:
        return []  # it was deleted, or its server had another database
    state = flow_run.state
    if state is None or state.is_final():
        return []
    # By the rules, not by force: that is how its slot is freed.
    end: State[Any] = Cancelled(message=GONE) if state.is_cancelling() else Crashed(message=GONE)
    client.set_flow_run_state(flow_run.id, end)
    return [f"flow run {flow_run.name}"]
