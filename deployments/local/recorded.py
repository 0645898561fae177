"""Recorded: a flow run here, recorded by the Prefect server that is configured or up, else by one of its own.

A server that is configured and does not answer is for the user to start. Where none is configured, nothing of
Prefect's stops a run: it is not recorded then. A server that goes away later stops no run, whosever it is.
"""

import logging
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.clients import NullEventsClient, PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import CancelledRun
from prefect.flows import Flow, FlowStateHook
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from deployments.local.ephemeral_server import temporary_server
from deployments.local.heartbeat import Heart
from deployments.local.prefect_database import set_damaged_aside
from deployments.local.supervisor import answers, await_up
from flows.lifecycle.results import find_result
from models.errors import InputError
from settings import Settings

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15  # a server on a busy machine takes its time
NOWHERE = "http://127.0.0.1:9/api"  # nobody is asked: the address is there because Prefect wants one


class NotBegunError(Exception):
    """Prefect failed before the first line of the flow."""


def run_recorded(home: Path, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """What the flow returns, or its `Result` where it ended and Prefect could not be told.

    Raises:
        InputError: the Prefect server that is configured does not answer.
    """
    await_up(home)
    here = Settings()
    if here.prefect_api_url:
        check_answers(here.prefect_api_url)
        try:
            return _run_on(here.prefect_api_url, home, flow, parameters)
        except NotBegunError as error:
            raise InputError(_silent(here.prefect_api_url, error)) from error
    if url := here.prefect_url:
        if answers(f"{url}/health", ANSWER_SECONDS):
            return _run_on(url, home, flow, parameters)
        log.warning("the Prefect server of `repartee up` (%s) does not answer; this run starts its own", url)
    try:
        return _run_on_its_own_server(home, flow, parameters)
    except (NotBegunError, OSError) as error:
        log.warning("%s; this run is not recorded in Prefect", error)
    return _run_unrecorded(flow, parameters)


def check_answers(url: str) -> None:
    """
    Raises:
        InputError: no Prefect server that we can work with answers at this address.
    """
    settings = {
        PREFECT_API_URL: url,
        PREFECT_CLIENT_MAX_RETRIES: 0,
        PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS,
    }
    try:
        with temporary_settings(settings), get_client(sync_client=True) as client:
            client.raise_for_api_version_mismatch()
    except Exception as error:
        raise InputError(_silent(url, error.__cause__ or error)) from error


def _silent(url: str, why: BaseException) -> str:
    return (
        f"the Prefect server at {url} (PREFECT_API_URL) cannot be used: {str(why) or type(why).__name__}; "
        "start it, or let each run have a server of its own: unset PREFECT_API_URL"
    )


def _run_on(url: str, home: Path, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """By a server that others use, too: it waits for the run's heartbeat, and may be away for a minute."""
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS}), Heart() as heart:
        return _run(url, home, flow, parameters, heart.begin)


def _run_on_its_own_server(home: Path, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    database = home / "prefect" / "prefect.db"
    set_damaged_aside(database)
    with temporary_server(home) as server:
        try:
            url = server.wait()
        except RuntimeError as error:
            raise NotBegunError(str(error)) from error
        # A child of this process that is gone does not come back: no long waits for it.
        settings = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: 45.0}
        EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=1)
        with temporary_settings(settings):
            try:
                return _run(url, home, flow, parameters)
            finally:
                # What the run said last must arrive while there is somebody to tell it to.
                APILogWorker.drain_all(timeout=5)
                EventsWorker.drain_all(timeout=5)
                EventsWorker.set_client_override(None)


def _run(
    url: str, home: Path, flow: Flow[..., Any], parameters: dict[str, Any], *hooks: FlowStateHook[..., Any]
) -> Any:
    begun: list[str] = []

    def note(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        begun.append(str(flow_run.id))

    with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            return flow.with_options(on_running=[note, *hooks])(**parameters)
        except CancelledRun:
            raise KeyboardInterrupt from None
        except Exception as error:
            if not begun and _is_prefects(error):
                raise NotBegunError(f"Prefect failed at the start: {error}") from error
            result = find_result(home, begun[0]) if begun else None
            if result is None:
                if fault := _users_fault(error):
                    raise fault from None
                raise
            log.warning("Prefect was not told how this run ended (%s); the next start does it", error)
            return result


def _is_prefects(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPError) or isinstance(error.__cause__, httpx.HTTPError)


def _users_fault(error: BaseException | None) -> InputError | None:
    """The error that ended the flow, where the one of telling Prefect so came on top of it."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _run_unrecorded(flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """The flow as a function, its tasks without a flow around them: they ask no server for anything."""
    settings = {
        PREFECT_API_URL: NOWHERE,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    EventsWorker.set_client_override(NullEventsClient)
    try:
        with temporary_settings(settings):
            ended = flow.fn(**flow.validate_parameters(parameters))
            return ended.result() if isinstance(ended, State) else ended
    except CancelledRun:
        raise KeyboardInterrupt from None
    finally:
        EventsWorker.set_client_override(None)
