"""Dead runs: closes runs that are still open in Prefect and MLflow although their process has died."""

import logging
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Crashed

from flows.lifecycle.locks import bury, dead_runs
from flows.lifecycle.publish import final_state, label
from flows.lifecycle.results import find_result, forget_result
from flows.lifecycle.webhook import send_notice
from models.errors import TrackingUnavailable
from tasks.store.run_context import RunContext

log = logging.getLogger(__name__)

GONE = "the process of this run is gone; a later start of Repartee noticed it"
# Repartee's automation in Prefect marks a run without heartbeats as crashed, with this message. Because the
# automation sends no notice, `_end` sends one.
SILENT = "no heartbeat: its process is gone"


def reconcile(run: RunContext) -> list[str]:
    """Close the dead runs of this home and return their names. The caller must hold the training lock."""
    closed = []
    try:
        closed += _end_flow_runs(run.home)
    except Exception as error:  # training does not depend on this, and the next start tries again
        name = type(error).__name__
        log.warning("runs whose process has ended could not be closed in Prefect: %s: %s", name, error)
    closed += _close_mlflow_runs(run)
    for line in closed:
        log.warning("%s was still open, but its process has ended; it is closed now", line)
    reconcile_champion(run)
    return closed


def reconcile_champion(run: RunContext) -> None:
    """If a promotion was interrupted, make the alias `champion` and the champion's history agree again."""
    try:
        for line in run.registry.reconcile():
            log.warning(line)
    except TrackingUnavailable:
        log.debug("the champion cannot be read: MLflow does not answer")  # the plan warns the user


def _close_mlflow_runs(run: RunContext) -> list[str]:
    closed = []
    try:
        for run_id in run.registry.open_runs(run.home_identity, run.location):
            run.registry.close_run(run_id, "KILLED")
            closed.append(f"MLflow run {run_id}")
    except TrackingUnavailable:
        log.debug("the open MLflow runs cannot be read: MLflow does not answer")
    return closed


def _end_flow_runs(home: Path) -> list[str]:
    ended = []
    if dead := dead_runs(home):
        with get_client(sync_client=True) as client:
            for flow_run_id in dead:
                ended += _end(client, home, flow_run_id)
                forget_result(home, flow_run_id)
                bury(home, flow_run_id)
    return ended


def open_flow_runs(client: SyncPrefectClient, home: Path) -> list[str]:
    """The names of the dead runs of a home that are still open on the server."""
    runs = [_read(client, each) for each in dead_runs(home)]
    return [run.name for run in runs if run and run.state and not run.state.is_final()]


def _read(client: SyncPrefectClient, flow_run_id: str) -> FlowRun | None:
    try:
        return client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
    except ObjectNotFound:
        return None  # the run was deleted, or belongs to another database


def _end(client: SyncPrefectClient, home: Path, flow_run_id: str) -> list[str]:
    flow_run = _read(client, flow_run_id)
    if flow_run is None or flow_run.state is None:
        return []
    if _complete(client, home, flow_run):
        return []
    if flow_run.state.is_final():
        if flow_run.state.message == SILENT:
            send_notice(flow_run, flow_run.state)
        return []
    # The state is not forced, because only a regular transition frees the run's concurrency slot.
    end: State[Any] = Cancelled(message=GONE) if flow_run.state.is_cancelling() else Crashed(message=GONE)
    client.set_flow_run_state(flow_run.id, end)
    if end.is_crashed():
        send_notice(flow_run, end)
    return [f"flow run {flow_run.name}"]


def _complete(client: SyncPrefectClient, home: Path, flow_run: FlowRun) -> bool:
    """If the run finished while Prefect did not answer, record its end; return whether this was done.

    Prefect may already have marked the run as crashed, because its process reported no final state.
    """
    result = find_result(home, str(flow_run.id))
    if result is None or not flow_run.state or flow_run.state.is_completed():
        return False
    if result.outcome is None:
        client.set_flow_run_state(flow_run.id, Completed(), force=True)
    else:
        client.set_flow_run_state(flow_run.id, final_state(result.outcome), force=True)
        label(client, flow_run, result.outcome)
    log.info("flow run %s had already finished; its end is now recorded in Prefect", flow_run.name)
    return True
