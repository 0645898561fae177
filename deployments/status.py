"""Status: what a person wants to know at a glance, in ten lines."""

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
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
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.supervisor import answers
from flows.lifecycle.locks import holder
from models.errors import InputError
from models.registry.promotions import PROMOTED_AT
from models.registry.reference import open_registry
from models.registry.versions import Registry
from settings import Settings, services_up

ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)


def status() -> dict[str, Any]:
    """Champion, runs, services and disk; what cannot be told is None."""
    here = Settings()
    told: dict[str, Any] = {
        "home": str(here.root),
        "services": _services(here.root),
        "training": holder(here.root) if here.root.is_dir() else None,
        "champion": None,
        "unknown": None,  # why the champion cannot be told
        "disk": _disk(here.root),
        "last_run": None,
        "next_run": None,
        "scheduled": None,  # whether the switch of a schedule is on
    }
    try:
        told["champion"] = _champion(open_registry(here))
    except InputError as error:  # MLflow is away for a moment; the rest is worth telling
        told["unknown"] = str(error)
    url = here.prefect_url
    if url and answers(f"{url}/health"):
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            told |= {"last_run": _last_run(client), "next_run": _next_run(client)}
            told["scheduled"] = _is_scheduled(client)
    return told


def _services(home: Path) -> dict[str, dict[str, Any]]:
    state = services_up(home)
    if state is None:
        return {}
    return {
        name: {**service, "healthy": not service["health"] or answers(service["health"])}
        for name, service in state["services"].items()
    }


def _champion(registry: Registry) -> dict[str, Any] | None:
    version = registry.champion()
    if version is None:
        return None
    return {
        "version": version.number,
        "since": version.tags.get(PROMOTED_AT),
        "test_bpb": version.metrics.get("test/bpb"),
        "recipe": version.tags.get("repartee.recipe"),
        "corpus": version.tags.get("repartee.corpus"),
    }


def _disk(home: Path) -> dict[str, int]:
    return {"used_bytes": used_bytes(home), "free_bytes": shutil.disk_usage(nearest_folder(home)).free}


def nearest_folder(path: Path) -> Path:
    """The folder itself, or what there is of the way to it."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def used_bytes(folder: Path) -> int:
    """Of its files; those that vanish while it is looked at count for nothing."""
    used = 0
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                used += Path(inner, name).lstat().st_size
    return used


def _runs(client: SyncPrefectClient, states: tuple[StateType, ...], sort: FlowRunSort) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
        ),
        sort=sort,
        limit=1,
    )


def _last_run(client: SyncPrefectClient) -> dict[str, Any] | None:
    for run in _runs(client, ENDED, FlowRunSort.END_TIME_DESC):
        state = run.state
        return {
            "name": run.name,
            "state": state.name if state else None,
            "why": state.message if state else None,
            "ended": str(run.end_time) if run.end_time else None,
        }
    return None


def _next_run(client: SyncPrefectClient) -> dict[str, Any] | None:
    for run in _runs(client, (StateType.SCHEDULED,), FlowRunSort.EXPECTED_START_TIME_ASC):
        return {"name": run.name, "at": str(run.expected_start_time)}
    return None


def _is_scheduled(client: SyncPrefectClient) -> bool:
    retrain = client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=["retrain"])))
    return any(not each.paused and any(one.active for one in each.schedules) for each in retrain)


def status_text(told: dict[str, Any]) -> str:
    champion, last, following, disk = (told[name] for name in ("champion", "last_run", "next_run", "disk"))
    lines = [("home", told["home"]), ("champion", "none yet: `repartee run` makes the first")]
    if told["unknown"]:
        lines[1] = ("champion", f"not known: {told['unknown']}")
    if champion:
        bpb = f", {champion['test_bpb']:.4f} bits per byte" if champion["test_bpb"] else ""
        made = f"{champion['recipe']} on {champion['corpus']}"
        lines[1] = ("champion", f"v{champion['version']} {_since(champion['since'])}, {made}{bpb}")
    lines.append(("now", f"{told['training']} trains" if told["training"] else "no training is under way"))
    up = bool(told["services"])
    unknown = "not known: no Prefect server answers (`repartee up` starts one)"
    if last:
        state = "" if last["state"] == "Completed" and last["why"] else f"{last['state']}: "
        lines.append(("last run", f"{last['name']}; {state}{last['why'] or 'without a message'}"))
    else:
        lines.append(("last run", "none so far" if up else unknown))
    if following:
        lines.append(("next run", f"{following['name']} at {following['at']}"))
    else:
        paused = "none: the schedule is paused (the switch is on the deployment's page)"
        planned = "not planned yet: the server does it within a minute of a change of the schedule"
        lines.append(("next run", (planned if told["scheduled"] else paused) if up else unknown))
    for name, service in told["services"].items():
        sick = ", starts" if service["starting"] else "" if service["healthy"] else ", DOES NOT ANSWER"
        lines.append((name, f"{service['address'] or 'at work'}{sick} (process {service['pid']})"))
    if not up:
        lines.append(("services", "down; `repartee up` starts them"))
    used, free = (size_text(disk[f"{kind}_bytes"]) for kind in ("used", "free"))
    lines.append(("disk", f"{used} used here, {free} free"))
    return "\n".join(f"  {name:<10}{text}" for name, text in lines)


def size_text(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.0f} kB"


def _since(moment: str | None) -> str:
    if not moment:
        return ""
    hours = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() / 3600
    age = f"{hours / 24:.0f} days" if hours > 48 else f"{hours:.1f} hours"
    return f"since {moment[:16].replace('T', ' ')} UTC ({age})"
