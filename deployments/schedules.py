"""Schedules for retraining: those of Prefect's deployment `retrain`, which its dashboard shows as well."""

import logging
import shlex
from dataclasses import dataclass
from datetime import datetime
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
from prefect.utilities.urls import url_for
from pydantic import ValidationError

from corpus import mix
from corpus import source as corpora
from deployments.deploy import SCHEDULED, find_deployment
from deployments.local.connection import NoDatabase, connect, create_deployments
from flows.config import RetrainConfig
from flows.lifecycle.context import check_deployable, check_start, with_absolute_checks
from flows.lifecycle.names import SCHEDULE_TAG
from flows.lifecycle.parameters import line_of, of_config, parameters_text, to_config
from flows.recipes import run_command
from models.errors import InputError, did_you_mean
from models.model_name import text_fault
from settings import Settings

log = logging.getLogger("deployments.schedules")

DEPLOYMENTS = (SCHEDULED, "retrain/train")  # in the dashboard, users may also add schedules to the second one
MAX_NAME = 100  # characters
MAX_PLANNED = 200  # runs


@dataclass(frozen=True)
class Schedule:
    """A schedule, with the values that `repartee schedule` shows."""

    name: str
    """The slug of the schedule, or the beginning of its id if it has none."""
    deployment: str
    line: str
    when: str
    timezone: str
    active: bool
    parameters: dict[str, Any]
    what: str
    """The recipe, the corpus and the other parameters, as text."""
    next_run: str | None
    """The start of the next planned run (ISO 8601, in the schedule's time zone); None if none is planned."""
    id: str


def list_schedules() -> list[Schedule]:
    """The schedules of the training deployments; none if the home has no Prefect database yet.

    Raises:
        InputError: the Prefect server cannot be used.
    """
    try:
        with connect(Settings()) as client:
            planned = _planned_runs(client)
            return [_described(*found, planned) for found in _schedules(client)]
    except NoDatabase:
        return []


def add(name: str, cron: str, timezone: str, config: RetrainConfig) -> Schedule:
    """Create a schedule that runs this configuration.

    Raises:
        InputError: the name is in use, the cron expression or the time zone is wrong, or a deployed run
            cannot use the configuration.
    """
    if fault := text_fault(name, max_length=MAX_NAME):
        raise InputError(f"the schedule name {ascii(name)[:300]} {fault}; choose another name")
    when = _cron(cron, timezone)
    parameters = _deployable(config)
    settings = Settings()
    with connect(settings, creates=True) as client:
        deployment = _deployment_for_schedules(client, settings)
        if name in (schedule_name(schedule) for _, schedule in _schedules(client)):
            raise InputError(
                f"there is already a schedule {name!r}; remove it first "
                f"(`repartee schedule remove {shlex.quote(name)}`), or choose another name"
            )
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
        # If an update lacks the schedule's parameters, Prefect's server deletes them.
        client.update_deployment_schedule(
            deployment.id, schedule.id, active=active, parameters=schedule.parameters
        )
        return _planned_now(client, name)


def remove(name: str) -> Schedule:
    """Delete a schedule and its planned runs; runs that have already started continue.

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
        InputError: there is no such schedule, or no server is configured or running.
    """
    settings = Settings()
    with connect(settings) as client:
        deployment, schedule = _find(client, name)
        parameters = {**deployment.parameters, **schedule.parameters}
        if settings.prefect_url is None:
            command = run_command(to_config(**{"recipe": "small", **parameters}))
            raise InputError(
                "the services are down, so no worker would start the run; start them with `repartee up`, or "
                f"start the run in this terminal: {command}"
            )
        tag = f"{SCHEDULE_TAG}{schedule_name(schedule)}"
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, tags=[tag])
        return {"schedule": name, "flow_run_id": str(run.id), "url": url_for(run) or ""}


def next_runs(client: SyncPrefectClient, count: int) -> list[dict[str, Any]]:
    """The next planned runs of all schedules that are switched on, the soonest first."""
    schedules = {schedule.id: (deployment, schedule) for deployment, schedule in _schedules(client)}
    runs = []
    for schedule_id, planned in _planned_runs(client).items():
        if schedule_id in schedules:
            shown = _described(*schedules[schedule_id], {schedule_id: planned})
            runs += [
                {
                    "at": _local(run.expected_start_time, shown.timezone),
                    "timezone": shown.timezone,
                    "schedule": shown.name,
                    "line": shown.line,
                    "what": shown.what,
                    "name": run.name,
                }
                for run in planned[:count]
                if shown.active and run.expected_start_time
            ]
    return sorted(runs, key=lambda run: datetime.fromisoformat(run["at"]))[:count]


def _local(moment: datetime, timezone: str) -> str:
    """A moment in the time zone of its schedule (ISO 8601)."""
    return moment.astimezone(ZoneInfo(timezone)).isoformat(timespec="minutes")


def _planned_runs(client: SyncPrefectClient) -> dict[UUID, list[FlowRun]]:
    """The planned runs of each schedule, the next one first; the keys are the ids of the schedules."""
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


def _deployment_for_schedules(client: SyncPrefectClient, settings: Settings) -> DeploymentResponse:
    """The deployment to which new schedules are added.

    If it is missing, it is created, but only on a temporary server, which no one else uses.
    """
    deployment = find_deployment(client, SCHEDULED)
    if deployment is None and settings.prefect_url is None:
        log.info("creating the deployments")
        create_deployments(settings.root, str(client.api_url), settings.tracking_uri)
        deployment = find_deployment(client, SCHEDULED)
    if deployment is None:
        raise InputError(
            "the deployments are missing on the Prefect server; `repartee doctor` shows how to create them"
        )
    return deployment


def _schedules(client: SyncPrefectClient) -> list[tuple[DeploymentResponse, DeploymentSchedule]]:
    """Every schedule, with the deployment to which it belongs."""
    deployments = [found for name in DEPLOYMENTS if (found := find_deployment(client, name))]
    return [(deployment, schedule) for deployment in deployments for schedule in deployment.schedules]


def _find(client: SyncPrefectClient, name: str) -> tuple[DeploymentResponse, DeploymentSchedule]:
    schedules = {
        schedule_name(schedule): (deployment, schedule) for deployment, schedule in _schedules(client)
    }
    if name in schedules:
        return schedules[name]
    hint = did_you_mean(name, schedules) or f"schedules: {', '.join(schedules) or 'none'}"
    raise InputError(f"there is no schedule {name!r}; {hint}")


def _planned_now(client: SyncPrefectClient, name: str) -> Schedule:
    """Plan the next runs of a schedule now, and return the schedule. Without this request, the server would
    plan these runs some seconds later."""
    deployment, schedule = _find(client, name)
    if schedule.active:
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": deployment.id}, json={})
    return _described(deployment, schedule, _planned_runs(client))


def _described(
    deployment: DeploymentResponse, schedule: DeploymentSchedule, planned: dict[UUID, list[FlowRun]]
) -> Schedule:
    parameters = {**deployment.parameters, **schedule.parameters}
    runs = planned.get(schedule.id, []) if schedule.id else []
    due = runs[0].expected_start_time if runs and schedule.active else None
    timezone = getattr(schedule.schedule, "timezone", None) or "UTC"
    return Schedule(
        name=schedule_name(schedule),
        deployment=deployment.name,
        line=line_of(parameters) or Settings().model_name,
        when=_when(schedule),
        timezone=timezone,
        active=schedule.active and not deployment.paused,
        parameters=parameters,
        what=parameters_text(parameters),
        next_run=_local(due, timezone) if due else None,
        id=str(schedule.id),
    )


def schedule_name(schedule: DeploymentSchedule) -> str:
    """The slug of a schedule, or the beginning of its id if it has none."""
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
        InputError: a deployed run cannot use the corpus, the initial model or the checks, or the parameters
            would contain a secret.
    """
    check_start(config)
    corpus = mix.with_absolute_paths(config.download.corpus)  # the worker has another working directory
    for source, _ in mix.read_mix(corpus):
        if corpora.is_path(source):
            if corpora.existing_path(source):
                check_deployable(source, config.start.init, Settings().root)
            corpora.resolve(source)
    check_deployable(corpus, config.start.init, Settings().root)
    download = config.download.model_copy(update={"corpus": corpus})
    deployed = with_absolute_checks(config, Settings().root).model_copy(update={"download": download})
    parameters = of_config(deployed)
    to_config(**parameters)
    return parameters
