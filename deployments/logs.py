"""Logs: what the runs of a home have logged, from Prefect's database, oldest line first."""

import logging
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterStartTime,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.types import DateTime

from deployments.local.connection import NoDatabase, connect
from models.errors import InputError
from settings import Settings

FLOWS = ["retrain", "prepare", "evaluate"]
MAX_RUNS = 200  # the newest runs, among which a name is looked up; Prefect returns at most 200
PAGE = 200  # lines; Prefect returns at most 200 at a time
POLL_SECONDS = 2.0
LAST_LINES_SECONDS = 5.0  # the last lines of a run reach Prefect within two seconds of the end of the run


def lines_of_run(name: str | None, *, follow: bool) -> Iterator[str]:
    """The log lines of a run, each with its local time and level, and then the outcome of an ended run.

    Args:
        name: the name of the run or the beginning of its id; None means the run that started last.
        follow: whether to wait for further lines until the run has ended.

    Raises:
        InputError: there is no such run, or the Prefect server cannot be used.
    """
    try:
        with connect(Settings()) as client:
            run = _find(client, name)
            state = run.state.name if run.state else "unknown"
            yield f"{run.name} ({state}, flow run {run.id})"
            yield from _lines(client, run.id, follow=follow)
            end = client.read_flow_run(run.id).state
            if end is not None and end.is_final():
                yield _line(end.timestamp, end.message or str(end.name))
    except NoDatabase as error:
        raise InputError(f"{Settings().root} has no runs yet; `repartee run` starts the first one") from error


def _lines(client: SyncPrefectClient, run: UUID, *, follow: bool) -> Iterator[str]:
    since: DateTime | None = None
    printed: set[UUID] = set()  # of the printed lines, those with the time `since`
    while True:
        ends = not follow or _has_ended(client, run)
        for entry in _read(client, run, since):
            is_prefects = entry.name.startswith("prefect.") and entry.level <= logging.INFO
            if entry.id not in printed and not is_prefects:
                printed = {entry.id} if entry.timestamp != since else printed | {entry.id}
                since = entry.timestamp
                yield _text(entry)
        if ends:
            return
        time.sleep(POLL_SECONDS)


def _has_ended(client: SyncPrefectClient, run: UUID) -> bool:
    state = client.read_flow_run(run).state
    if state is None or not state.is_final():
        return False
    time.sleep(LAST_LINES_SECONDS)
    return True


def _read(client: SyncPrefectClient, run: UUID, since: DateTime | None) -> Iterator[Log]:
    """The lines of a run that were logged at this time or later."""
    after = None if since is None else LogFilterTimestamp(after_=since)
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]), timestamp=after)
    offset = 0
    while page := client.read_logs(wanted, limit=PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC):
        yield from page
        offset += len(page)


def _text(entry: Log) -> str:
    level = "" if entry.level == logging.INFO else f"{logging.getLevelName(entry.level).lower()}: "
    return _line(entry.timestamp, f"{level}{entry.message}")


def _line(moment: datetime, text: str) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}  {text}"


def _find(client: SyncPrefectClient, name: str | None) -> FlowRun:
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=FLOWS)),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
        sort=FlowRunSort.START_TIME_DESC,
        limit=MAX_RUNS,
    )
    if not runs:
        raise InputError("no run has started yet; `repartee run` starts the first one")
    if name is None:
        return runs[0]
    found = [run for run in runs if run.name == name or str(run.id).startswith(name)]
    found = found or [run for run in runs if name in run.name]
    if found:
        return found[0]
    newest = ", ".join(repr(run.name) for run in runs[:3])
    raise InputError(f"there is no run {name!r}; the newest runs are {newest}")
