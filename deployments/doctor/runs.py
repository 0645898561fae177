"""Checks of deployments, champions and runs: whether the servers' records of them match the facts."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.deploy import find_deployment
from deployments.doctor.installation import NO_HOME, NO_SERVER, CheckSkipped, Fault, Installation
from deployments.doctor.servers import RESTART
from deployments.install import AUTOMATIONS, DEPLOYMENTS, late_runs
from deployments.local.connection import create_deployments
from deployments.local.services import POOL
from flows.config import RetrainConfig
from flows.lifecycle.context import open_run
from flows.lifecycle.dead_runs import open_flow_runs, reconcile
from flows.lifecycle.locks import holder, my_turn
from models.addresses import redact_addresses
from models.files import PROJECT
from models.registry.promotions import CHAMPION
from models.registry.tags import RECIPE, SOURCE
from models.registry.version import Version
from models.registry.versions import Registry
from models.sqlite_files import exists, file_of

LATE_SECONDS = 60  # our worker polls every 2 seconds; by default Prefect's workers poll every 15
ACTIVE = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


def deployments(installation: Installation) -> Iterator[Fault]:
    """The Prefect server has Repartee's deployments and automations, and the worker runs this code."""
    with _client(installation) as client:
        missing = [f"deployment {name}" for name in DEPLOYMENTS if find_deployment(client, name) is None]
        missing += [
            f"automation {name!r}" for name in AUTOMATIONS if not client.read_automations_by_name(name)
        ]
        for what in missing:
            yield Fault(
                f"{what} is missing from the Prefect server",
                _install_command(installation),
                lambda: _install(installation),
            )
        if not installation.services:
            return  # the worker is on another machine, where the project may be in another folder
        for deployment in _deployments(client):
            folder = _folder(deployment)
            if folder and folder != str(PROJECT):
                what = (
                    f"deployment {deployment.name} runs the code in {folder}, but this command "
                    f"runs the code in {PROJECT}"
                )
                yield Fault(what, _install_command(installation), lambda: _install(installation))


def champion(installation: Installation) -> Iterator[Fault]:
    """The champion of each line has intact files, and is the version that was promoted last."""
    database = file_of(installation.settings.tracking_uri)
    if database is not None and not exists(database):
        raise CheckSkipped("no model is registered yet; `repartee run` registers the first one")
    default = installation.registry
    yield from _champion_of(default, line="")
    for line in default.lines():
        if line != default.model:
            yield from _champion_of(replace(default, model=line), line=line)


def _champion_of(registry: Registry, *, line: str) -> Iterator[Fault]:
    """The faults of one model line's champion. For the default line, `line` is empty."""
    option, of_line = (f" --line {shlex.quote(line)}", f" of line {line}") if line else ("", "")
    versions, history = registry.versions(), registry.history()
    now = next((version for version in versions if CHAMPION in version.aliases), None)
    if now is None:
        if history:
            what = f"no version{of_line} is the champion, although v{history[0].version} was promoted last"
            yield Fault(what, _promote_another(registry, versions) + option)
        return
    if damage := registry.damage(now):
        others = [version for version in versions if version.number != now.number]
        yield Fault(
            f"champion v{now.number}{of_line} cannot be used: {damage}",
            _promote_another(registry, others, damaged=now) + option,
        )
    elif history and history[0].version != now.number:
        yield Fault(
            f"v{now.number}{of_line} is the champion, but v{history[0].version} was promoted last: "
            "a user moved the alias manually, and the history does not show the change",
            f"repartee promote {now.number}{option}",
        )


def dead(installation: Installation) -> Iterator[Fault]:
    """Every run that is recorded as running has a live process."""
    if not installation.home.is_dir():
        raise CheckSkipped(NO_HOME)
    if busy := holder(installation.home):
        raise CheckSkipped(f"the run {busy} is in progress, and closed all dead runs when it started")
    with _client(installation) as client:
        run = open_run(RetrainConfig(), installation.settings)
        open_runs = run.registry.open_runs(run.home_identity, run.location)
        dead_runs = [f"MLflow run {run_id}" for run_id in open_runs]
        dead_runs += [f"flow run {name}" for name in open_flow_runs(client, installation.home)]
    for name in dead_runs:
        what = f"{name} is still open, but its process has ended"
        yield Fault(what, "repartee doctor --fix", lambda: _close(installation))


def slots(installation: Installation) -> Iterator[Fault]:
    """No finished run still occupies a concurrency slot of its deployment and so makes later runs wait."""
    with _client(installation) as client:
        for deployment in _deployments(client):
            limit = deployment.global_concurrency_limit
            active = len(_active_runs(client, deployment))
            if limit and limit.active_slots > active:
                yield Fault(
                    f"{limit.active_slots} of {limit.limit} concurrency slots of the deployment "
                    f"{deployment.name} are occupied, but {active} of its runs are active",
                    f"{_with_server(installation)} prefect gcl update {limit.name} --active-slots {active}",
                    partial(_set_slots, installation, limit.name, active),
                )


def late(installation: Installation) -> Iterator[Fault]:
    """Every scheduled run starts on time."""
    with _client(installation) as client:
        before = datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)
        for deployment in _deployments(client):
            if runs := late_runs(client, deployment.id, before):
                why, remedy = _why_late(installation, client, deployment)
                count = f"{len(runs)} runs" if len(runs) > 1 else f"run {runs[0].name}"
                yield Fault(
                    f"{count} of the deployment {deployment.name} should have started already: {why}", remedy
                )


def _why_late(
    installation: Installation, client: SyncPrefectClient, deployment: DeploymentResponse
) -> tuple[str, str]:
    """The reason why a run is late, and the command that fixes the cause."""
    pool, queue = deployment.work_pool_name or POOL, deployment.work_queue_name or "default"
    if client.read_work_pool(pool).is_paused:
        return (
            f"the work pool {pool} is paused",
            f"{_with_server(installation)} prefect work-pool resume {pool}",
        )
    if client.read_work_queue_by_name(queue, work_pool_name=pool).is_paused:
        return (
            f"the work queue {queue} is paused",
            f"{_with_server(installation)} prefect work-queue resume {queue} --pool {pool}",
        )
    start = (
        RESTART
        if installation.services
        else f"{_with_server(installation)} prefect worker start --pool {pool}"
    )
    workers = client.read_workers_for_work_pool(pool)
    if not any(worker.status == WorkerStatus.ONLINE for worker in workers):
        return f"no worker serves the work pool {pool}", start
    return f"no worker serves the work queue {queue}, although a worker serves the work pool", start


@contextmanager
def _client(installation: Installation) -> Iterator[SyncPrefectClient]:
    if installation.prefect_url is None:
        raise CheckSkipped(NO_SERVER)
    with (
        temporary_settings({PREFECT_API_URL: installation.prefect_url}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    return [found for name in DEPLOYMENTS if (found := find_deployment(client, name))]


def _folder(deployment: DeploymentResponse) -> str | None:
    """The working directory in which the worker imports the flow."""
    for step in deployment.pull_steps or []:
        for name, values in step.items():
            if name.endswith("set_working_directory"):
                return str(values["directory"])
    return None


def _active_runs(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ACTIVE)))
        ),
    )


def _set_slots(installation: Installation, name: str, count: int) -> None:
    with _client(installation) as client:
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=count))


def _close(installation: Installation) -> None:
    run = open_run(RetrainConfig(), installation.settings)
    with (
        temporary_settings({PREFECT_API_URL: installation.prefect_url}),
        my_turn(installation.home, "doctor"),
    ):
        reconcile(run)


def _install(installation: Installation) -> None:
    assert installation.prefect_url is not None
    create_deployments(installation.home, installation.prefect_url, installation.settings.tracking_uri)


def _install_command(installation: Installation) -> str:
    program = f"{shlex.quote(sys.executable)} -m deployments.install"
    return f"cd {shlex.quote(str(PROJECT))}; {_with_server(installation)} {program}"


def _with_server(installation: Installation) -> str:
    return f"PREFECT_API_URL={redact_addresses(installation.prefect_url or '')}"


def _promote_another(registry: Registry, versions: list[Version], damaged: Version | None = None) -> str:
    """The command that promotes the newest intact version, or trains one again if there is none."""
    intact = next((version for version in versions if registry.damage(version) is None), None)
    if intact is not None:
        return f"repartee promote {intact.number}"
    repeated = damaged or versions[0] if versions else None
    if repeated is None:
        return "repartee run"
    recipe, source = (repeated.tags.get(name, "") for name in (RECIPE, SOURCE))
    return f"repartee run --recipe {recipe} --corpus {shlex.quote(source)}"
