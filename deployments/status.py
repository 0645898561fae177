"""Status: a summary of the champion, the runs, the services and the disk space of a home."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.disk import nearest_folder, used_bytes
from deployments.local.processes import answers
from deployments.schedules import next_runs
from flows.lifecycle.locks import holder
from models.errors import InputError
from models.registry.pages import EXPERIMENTS_PAGE, experiment_page
from models.registry.reference import open_registry
from models.registry.tags import CORPUS, PROMOTED_AT, RECIPE
from models.registry.versions import Registry
from services_state import running_services
from settings import Settings
from tasks.trunk.chain import trunks

ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
NEXT_RUNS = 3


def status() -> dict[str, Any]:
    """The champions, the last run, the next runs, the services and the disk space. Unknown values are None.

    Raises:
        InputError: a setting is wrong.
    """
    settings = Settings()
    found: dict[str, Any] = {
        "home": str(settings.root),
        "services": _services(settings.root),
        "training": holder(settings.root) if settings.root.is_dir() else None,
        "champion": None,  # of the default model line
        "champions": [],  # of all model lines
        "trunks": _trunks(settings.root),
        "unknown": None,  # why the champion is not known
        "disk": _disk(settings.root),
        "last_run": None,
        "next_runs": None,
        "scheduled": None,  # whether a schedule is switched on
    }
    try:
        registry = open_registry(settings)
        found |= _champions(registry)
        if "mlflow" in found["services"]:
            found["services"]["mlflow"]["page"] = _runs_page(registry)
    except InputError as error:  # MLflow does not answer; the rest is worth showing
        found["unknown"] = str(error)
    url = settings.prefect_url
    if url and answers(f"{url}/health"):
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            found |= {"last_run": _last_run(client), "next_runs": next_runs(client, NEXT_RUNS)}
            found["scheduled"] = _is_scheduled(client)
    return found


def _services(home: Path) -> dict[str, dict[str, Any]]:
    state = running_services(home)
    if state is None:
        return {}
    return {
        name: {**asdict(service), "healthy": not service.health or answers(service.health)}
        for name, service in state.services.items()
    }


def _runs_page(registry: Registry) -> str:
    """The address of MLflow's page with the runs, relative to that of its server."""
    experiment = registry.find_experiment()
    return EXPERIMENTS_PAGE if experiment is None else experiment_page(experiment)


def _champions(registry: Registry) -> dict[str, Any]:
    """The champion of the default model line, and the champions of all lines, the default line first."""
    others = [replace(registry, model=line) for line in registry.lines() if line != registry.model]
    default = _champion(registry)
    champions = [champion for champion in (default, *map(_champion, others)) if champion]
    return {"champion": default, "champions": champions}


def _champion(registry: Registry) -> dict[str, Any] | None:
    version = registry.champion()
    if version is None:
        return None
    return {
        "line": registry.model,
        "version": version.number,
        "since": version.tags.get(PROMOTED_AT),
        "test_bpb": version.metrics.get("test/bpb"),
        "recipe": version.tags.get(RECIPE),
        "corpus": version.tags.get(CORPUS),
    }


def _trunks(home: Path) -> list[dict[str, Any]]:
    """The trunks of the model lines: where the next night of each goes on."""
    found = []
    for trunk in trunks(home):
        chain, damage = trunk.state()
        last = chain.nights[-1] if chain.nights else None
        found.append(
            {
                "line": trunk.line,
                "network": trunk.folder.name.rpartition("-")[0],
                "nights": chain.num_nights,
                "since": last.at if last else None,
                "validation_bpb": last.validation_bpb if last else None,
                "stale": last.stale if last else 0,  # nights in a row without a better score
                "damage": damage,
            }
        )
    return found


def _disk(home: Path) -> dict[str, int]:
    return {"used_bytes": used_bytes(home), "free_bytes": shutil.disk_usage(nearest_folder(home)).free}


def _last_run(client: SyncPrefectClient) -> dict[str, Any] | None:
    ended = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED))),
        sort=FlowRunSort.END_TIME_DESC,
        limit=1,
    )
    for run in ended:
        state = run.state
        return {
            "name": run.name,
            "state": state.name if state else None,
            "why": state.message if state else None,
            "ended": str(run.end_time) if run.end_time else None,
        }
    return None


def _is_scheduled(client: SyncPrefectClient) -> bool:
    retrain = client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])))
    return any(not each.paused and any(one.active for one in each.schedules) for each in retrain)
