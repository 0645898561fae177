"""Install: create the work pool, the deployments of prefect.yaml and the automations on a Prefect server.

    python -m deployments.install

A second call changes nothing. The module also closes dead runs, and if a deployment has missed several runs
while the services were down, the module cancels all of these runs except the newest of each schedule.
"""

import flows  # noqa: F401  # sets environment variables that Prefect reads when it is imported

# isort: split
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Cancelled

from deployments.deploy import convert_schedules, deploy, find_deployment, simplify_forms
from deployments.local.services import POOL
from deployments.schedules import schedule_name
from environment import HEARTBEAT_SECONDS
from flows.config import RetrainConfig
from flows.lifecycle.context import open_run
from flows.lifecycle.dead_runs import SILENT, reconcile
from flows.lifecycle.events import NEW_DATA
from flows.lifecycle.locks import Busy, my_turn
from flows.lifecycle.webhook import send_missed
from models.errors import InputError
from settings import Settings

log = logging.getLogger("deployments.install")  # the same name if this module runs as __main__

MISSED = timedelta(minutes=10)  # a scheduled run that is delayed by more than this counts as missed
ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "Paused", "Suspended")
AUTOMATIONS = CRASHED_WHEN_SILENT, TRAIN_ON_NEW_DATA = (
    "repartee: a silent run has crashed",
    "repartee: train on new data",
)
DEPLOYMENTS = ("retrain/retrain", "retrain/train", "prepare/prepare", "evaluate/evaluate")


def install() -> None:
    """Install everything on the server at PREFECT_API_URL.

    Raises:
        RuntimeError: the server or Prefect refuses a deployment.
        InputError: the home folder is not writable.
    """
    with get_client(sync_client=True) as client:
        _make_pool(client)
        deploy(client)
    put_in_order()


def put_in_order() -> None:
    """Adjust the deployments' forms and schedules, create or update the automations, skip missed runs, and
    close dead runs."""
    with get_client(sync_client=True) as client:
        simplify_forms(client, DEPLOYMENTS)
        convert_schedules(client, DEPLOYMENTS)
        ours = {client.read_deployment_by_name(name).flow_id for name in DEPLOYMENTS}
        for automation in (crashed_when_silent(ours), train_on_new_data(client)):
            _put(client, automation)
        skip_missed(client)
    close_dead_runs()


def prepare_worker_start(worker: str) -> None:
    """Do what must precede the start of this worker: skip missed runs, and close dead runs.

    If another worker is online, no runs are skipped, because that worker would already have started all late
    runs.

    Raises:
        InputError: the home folder is not writable, or MLflow cannot be used.
    """
    with get_client(sync_client=True) as client:
        workers = client.read_workers_for_work_pool(POOL)
        if not any(each.status == WorkerStatus.ONLINE and each.name != worker for each in workers):
            skip_missed(client)
    close_dead_runs()


def close_dead_runs() -> None:
    """Record in Prefect and MLflow that the dead runs of this home on this machine have ended.

    Raises:
        InputError: the home folder is not writable, or MLflow cannot be used.
    """
    run = open_run(RetrainConfig(), Settings())
    with suppress(Busy), my_turn(run.home, "up"):  # a run that holds the lock closed all dead runs first
        reconcile(run)


def _make_pool(client: SyncPrefectClient) -> None:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def crashed_when_silent(flow_ids: set[UUID]) -> AutomationCore:
    """An automation that marks a run of these flows as crashed after three missed heartbeats."""
    return AutomationCore(
        name=CRASHED_WHEN_SILENT,
        description="Marks a run of Repartee's flows as crashed if it no longer sends heartbeats.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # Only these flows: the runs of other projects on the server may send fewer heartbeats, or none.
            match_related={
                "prefect.resource.role": "flow",
                "prefect.resource.id": sorted(f"prefect.flow.{flow_id}" for flow_id in flow_ids),
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=SILENT)],
    )


def train_on_new_data(client: SyncPrefectClient) -> AutomationCore:
    """An automation that starts a training run when a `prepare` run has produced new examples."""
    deployment = client.read_deployment_by_name("retrain/train")
    return AutomationCore(
        name=TRAIN_ON_NEW_DATA,
        description="Starts a training run when a prepare run has produced new examples.",
        trigger=EventTrigger(
            expect={NEW_DATA},
            match={"prefect.resource.id": "repartee.corpus.*"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=deployment.id,
                parameters={
                    name: {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{name} }}}}"}
                    for name in ("recipe", "corpus", "settings")
                },
            )
        ],
    )


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create or update an automation. If a user has disabled it, it stays disabled."""
    existing = client.read_automations_by_name(automation.name)
    if not existing:
        client.create_automation(automation)
        return
    client.update_automation(existing[0].id, automation.model_copy(update={"enabled": existing[0].enabled}))
    for duplicate in existing[1:]:
        client.delete_automation(duplicate.id)


def skip_missed(client: SyncPrefectClient) -> int:
    """Cancel all late runs except the newest of each schedule; return the number of cancelled runs."""
    deployments = [found for name in DEPLOYMENTS if (found := find_deployment(client, name))]
    skipped = sum(_skip_missed_of(client, deployment) for deployment in deployments)
    if skipped:
        log.info("skipping %d missed runs; the newest missed run of each schedule starts instead", skipped)
    return skipped


def _skip_missed_of(client: SyncPrefectClient, deployment: DeploymentResponse) -> int:
    now, skipped = datetime.now(UTC), 0
    names = {schedule.id: schedule_name(schedule) for schedule in deployment.schedules}
    runs: dict[UUID | None, list[FlowRun]] = {}  # under None, the runs that belong to no schedule
    for flow_run in late_runs(client, deployment.id, now):
        if flow_run.state_name != "AwaitingConcurrencySlot":  # runs in this state were not missed
            runs.setdefault(flow_run.created_by.id if flow_run.created_by else None, []).append(flow_run)
    for schedule, (newest, *older) in runs.items():
        for flow_run in older:
            message = (
                "skipped: this run was missed while the services were down; a newer missed run starts instead"
            )
            client.set_flow_run_state(flow_run.id, Cancelled(message=message))
            client.update_flow_run(flow_run.id, tags=[*flow_run.tags, "skipped"])
        oldest = older[-1] if older else newest
        if schedule in names and now - (oldest.expected_start_time or now) > MISSED:
            send_missed(newest, names[schedule], 1 + len(older))
        skipped += len(older)
    return skipped


def late_runs(client: SyncPrefectClient, deployment_id: UUID, before: datetime) -> list[FlowRun]:
    """The runs of a deployment that were due before `before` and have not started, newest first."""
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=before),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


def in_one_line(action: Callable[[], object]) -> int:
    """Run `action` and return the exit status: 0, or 2 after an InputError, whose message is printed."""
    from console import show_progress
    from deployments.local.recorded import check_answers

    show_progress()
    try:
        if url := Settings().prefect_api_url:
            check_answers(url)
        action()
    except InputError as error:
        sys.stderr.write(f"repartee: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(in_one_line(install))
