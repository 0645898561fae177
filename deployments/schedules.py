"""Schedules: what is retrained when. Prefect stores them as schedules of the deployment `retrain`.

They are the same schedules that the dashboard shows and edits.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for
from pydantic import ValidationError

from corpus import source as corpora
from deployments.local.connection import DEPLOYMENT, connect
from flows.config import RetrainConfig
from flows.lifecycle.context import check_deployable
from flows.lifecycle.parameters import of_config, to_config
from flows.recipes import run_command
from models.errors import InputError, did_you_mean
from models.model_name import text_fault
from settings import Settings

DEPLOYMENTS = (
    DEPLOYMENT,
    "retrain/train",
)  # new schedules belong to the first, but users may add some to both
MAX_NAME = 100  # characters
MAX_PLANNED = 200  # planned runs


@dataclass(frozen=True)
class Schedule:
    """One schedule as the command shows it."""

    name: str
    """The slug of the schedule, or the beginning of its id if it has none."""
    deployment: str
    line: str
    when: str
    timezone: str
    active: bool
    parameters: dict[str, Any]
    next_run: str | None
    """The start of the next planned run (ISO 8601), or None."""
    id: str


def list_schedules() -> list[Schedule]:
    """The schedules of the training deployments.

    Raises:
        InputError: the Prefect server cannot be used.
    """
    with connect(Settings()) as client:
        planned = next_runs(client)
        return [
            _described(deployment, schedule, planned)
            for deployment in _deployments(client)
            for schedule in deployment.schedules
        ]


def add(name: str, cron: str, timezone: str, config: RetrainConfig) -> Schedule:
    """Create a schedule that runs this configuration.

    Raises:
        InputError: the name is in use, the cron expression or the time zone is wrong, or a deployed run
            cannot use the configuration.
    """
    if fault := text_fault(name, max_length=MAX_NAME):
        raise InputError(f"the name of a schedule {ascii(name)[:300]} {fault}; choose another name")
    when = _cron(cron, timezone)
    parameters = _deployable(config)
    with connect(Settings()) as client:
        if _find_or_none(client, name):
            raise InputError(
                f"there is already a schedule {name!r}; remove it first (`repartee schedule remove {name}`), "
                "or choose another name"
            )
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        new = DeploymentScheduleCreate(schedule=when, active=True, parameters=parameters, slug=name)
        client.create_deployment_schedules(deployment.id, [new])
        return _planned_now(client, name)


def set_active(name: str, *, active: bool) -> Schedule:
    """Switch a schedule on or off.

    Raises:
        InputError: there is no such schedule.
    """
    with connect(Settings()) as client:
        deployment, schedule = _find(client, name)
        client.update_deployment_schedule(deployment.id, schedule.id, active=active)
        return _planned_now(client, name)


def remove(name: str) -> Schedule:
    """Delete a schedule with its planned runs; runs that have started continue.

    Raises:
        InputError: there is no such schedule.
    """
    with connect(Settings()) as client:
        deployment, schedule = _find(client, name)
        client.delete_deployment_schedule(deployment.id, schedule.id)
        return _described(deployment, schedule, {})


def run_now(name: str) -> dict[str, Any]:
    """Start a run with the parameters of a schedule now, on the worker.

    Raises:
        InputError: there is no such schedule, or no server is running, so that nothing would start the run.
    """
    settings = Settings()
    with connect(Settings()) as client:
        deployment, schedule = _find(client, name)
        parameters = {**deployment.parameters, **schedule.parameters}
        if settings.prefect_url is None:
            command = run_command(to_config(**{"recipe": "small", **parameters}))
            raise InputError(
                "the services are down, so no worker would start the run; start them with `repartee up`, or "
                f"run it here: {command}"
            )
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        return {"schedule": name, "flow_run_id": str(run.id), "url": url_for(run) or ""}


def next_runs(client: SyncPrefectClient) -> dict[UUID, list[FlowRun]]:
    """The planned runs of each schedule, by the schedule's id, the next one first."""
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=MAX_PLANNED,
    )
    planned: dict[UUID, list[FlowRun]] = {}
    for run in runs:
        if run.created_by and run.created_by.type == "SCHEDULE" and run.created_by.id:
            planned.setdefault(run.created_by.id, []).append(run)
    return planned


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    try:
        return [client.read_deployment_by_name(name) for name in DEPLOYMENTS]
    except ObjectNotFound as missing:
        raise InputError(
            "the Prefect server lacks the deployments; `repartee doctor` shows the command that creates them"
        ) from missing


def _find_or_none(
    client: SyncPrefectClient, name: str
) -> tuple[DeploymentResponse, DeploymentSchedule] | None:
    for deployment in _deployments(client):
        for schedule in deployment.schedules:
            if _name(schedule) == name:
                return deployment, schedule
    return None


def _find(client: SyncPrefectClient, name: str) -> tuple[DeploymentResponse, DeploymentSchedule]:
    if found := _find_or_none(client, name):
        return found
    names = [_name(schedule) for deployment in _deployments(client) for schedule in deployment.schedules]
    hint = did_you_mean(name, names) or f"schedules: {', '.join(names) or 'none'}"
    raise InputError(f"there is no schedule {name!r}; {hint}")


def _planned_now(client: SyncPrefectClient, name: str) -> Schedule:
    """The schedule, after planning its next runs, which the server itself would do only seconds later."""
    deployment, schedule = _find(client, name)
    if schedule.active:
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json={})
    return _described(deployment, schedule, next_runs(client))


def _described(
    deployment: DeploymentResponse, schedule: DeploymentSchedule, planned: dict[UUID, list[FlowRun]]
) -> Schedule:
    parameters = {**deployment.parameters, **schedule.parameters}
    runs = planned.get(schedule.id, []) if schedule.id else []
    due = runs[0].expected_start_time if runs and schedule.active else None
    return Schedule(
        name=_name(schedule),
        deployment=deployment.name,
        line=line_of(parameters),
        when=_when(schedule),
        timezone=getattr(schedule.schedule, "timezone", None) or "UTC",
        active=schedule.active and not deployment.paused,
        parameters=parameters,
        next_run=_local_time(due, schedule) if due else None,
        id=str(schedule.id),
    )


def line_of(parameters: dict[str, Any]) -> str:
    """The model line of a run with these parameters."""
    try:
        line = to_config(**{"recipe": "small", **parameters}).line
    except (InputError, TypeError):  # the run itself reports the error
        line = None
    return line or Settings().model_name


def _name(schedule: DeploymentSchedule) -> str:
    return schedule.slug or str(schedule.id)[:8]


def _when(schedule: DeploymentSchedule) -> str:
    match schedule.schedule:
        case CronSchedule(cron=cron):
            return cron
        case IntervalSchedule(interval=interval):
            return f"every {interval}"
        case RRuleSchedule(rrule=rule):
            return rule
    return ""


def _local_time(due: datetime, schedule: DeploymentSchedule) -> str:
    """The time in the time zone of the schedule."""
    zone = getattr(schedule.schedule, "timezone", None) or "UTC"
    return due.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes")


def _cron(cron: str, timezone: str) -> CronSchedule:
    if timezone not in available_timezones():
        hint = did_you_mean(timezone, available_timezones()) or "for example Europe/Berlin"
        raise InputError(f"--timezone {timezone}: there is no such time zone; {hint}")
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(
            f"--cron {cron!r}: {reason}; give minute, hour, day, month and weekday: '0 3 * * *' is daily at 3"
        ) from None


def _deployable(config: RetrainConfig) -> dict[str, Any]:
    """The parameters of a deployed run with this configuration.

    Raises:
        InputError: the corpus does not exist or a deployed run may not read it, or a secret would be stored.
    """
    corpus = config.download.corpus
    if corpora.is_path(corpus):
        path = Path(corpus.strip()).expanduser()
        if path.exists():
            corpus = str(path.resolve())  # the worker runs in another folder
            check_deployable(corpus, config.start.init, Settings().root)
        corpora.resolve(corpus)
    check_deployable(corpus, config.start.init, Settings().root)
    download = config.download.model_copy(update={"corpus": corpus})
    parameters = of_config(config.model_copy(update={"download": download}))
    to_config(**parameters)
    return parameters
