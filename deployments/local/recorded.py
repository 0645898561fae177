"""Recorded runs: run a flow in this process, and record the run on a Prefect server.

The run is recorded on the configured server. If no server is configured, the run is recorded on the server of
`repartee up` or, if `repartee up` is not running, on a server that is started for this run. If a configured
server does not answer at the start, the command ends with an error, which the user has to fix. If no server
is configured and Prefect fails, the run continues without being recorded. A server that fails during a run
never stops the run.
"""

import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.clients import NullEventsClient, PrefectEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import CancelledRun
from prefect.flow_engine import run_flow
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
from deployments.local.processes import answers
from deployments.local.supervisor import await_up
from flows.lifecycle.results import find_result
from models.errors import InputError
from settings import Settings

log = logging.getLogger(__name__)

ANSWER_SECONDS = 15  # how long a server on a busy machine may take to answer
NOWHERE = "http://127.0.0.1:9/api"  # Prefect needs an address; no request is sent to it


_unsent: set[Future[bool]] = set()


class NotStartedError(Exception):
    """Prefect failed before the first line of the flow ran."""


def run_recorded(settings: Settings, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """Run a flow in this process, and record it on a Prefect server if possible.

    Returns:
        The value that the flow returns; if Prefect could not record the end of the flow, the `Result` that
        the flow has saved in the home.

    Raises:
        InputError: the configured Prefect server does not answer, or the flow raised an InputError.
        KeyboardInterrupt: the run was cancelled.
    """
    home = settings.root
    await_up(home)
    if settings.prefect_api_url:
        check_answers(settings.prefect_api_url)
        try:
            return _run_on(settings.prefect_api_url, home, flow, parameters)
        except NotStartedError as error:
            raise InputError(_unusable(settings.prefect_api_url, error)) from error
    if url := settings.prefect_url:
        if answers(f"{url}/health", ANSWER_SECONDS):
            return _run_on(url, home, flow, parameters)
        log.warning(
            "the Prefect server of `repartee up` (%s) does not answer; this run starts its own server",
            url,
        )
    try:
        return _run_on_its_own_server(home, flow, parameters)
    except (NotStartedError, OSError) as error:
        log.warning("%s; this run is not recorded in Prefect", error)
    return _run_unrecorded(flow, parameters)


def check_answers(url: str) -> None:
    """Check that a Prefect server of a compatible version answers at this address.

    Raises:
        InputError: no such server answers; the message says why.
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
        raise InputError(_unusable(url, error.__cause__ or error)) from error


def _unusable(url: str, why: BaseException) -> str:
    return (
        f"the Prefect server at {url} (PREFECT_API_URL) cannot be used: {str(why) or type(why).__name__}; "
        "start that server, or let each run start its own server: unset PREFECT_API_URL"
    )


def _run_on(url: str, home: Path, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """Run a flow on a server that other runs also use. Such a server expects heartbeats from the run, and can
    be unavailable for up to a minute."""
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS}), Heart() as heart:
        try:
            return _run(url, home, flow, parameters, heart.start)
        finally:
            _send_remaining(ANSWER_SECONDS)


def _send_remaining(timeout_s: float) -> None:
    """Wait until the run's last log lines and then its last events are sent, each for at most `timeout_s`."""
    for worker in (APILogWorker, EventsWorker):
        drained = worker.drain_all(timeout=timeout_s)
        assert isinstance(drained, tuple)  # in an event loop, `drained` would be a coroutine
        _unsent.update(drained[1])
    if _unsent:
        log.warning("Prefect does not answer: the last log lines and events of this run were not sent")


def is_waiting_for_prefect() -> bool:
    """Whether unsent messages to a server that hangs would delay the exit of the interpreter."""
    return any(not future.done() for future in _unsent)


def _run_on_its_own_server(home: Path, flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    database = home / "prefect" / "prefect.db"
    set_damaged_aside(database)
    log.info("starting a Prefect server for this run")
    with temporary_server(home) as server:
        try:
            url = server.wait()
        except RuntimeError as error:
            raise NotStartedError(str(error)) from error
        # This server is a child process that nothing restarts, so a long wait for it would be useless.
        settings = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: 45.0}
        EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=1)
        with temporary_settings(settings):
            try:
                return _run(url, home, flow, parameters)
            finally:
                # The last log lines and events of the run must be sent while the server is running.
                _send_remaining(5)
                EventsWorker.set_client_override(None)


def _run(
    url: str, home: Path, flow: Flow[..., Any], parameters: dict[str, Any], *hooks: FlowStateHook[..., Any]
) -> Any:
    started_runs: list[str] = []

    def note_start(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        started_runs.append(str(flow_run.id))

    settings = {PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(settings), ExitStack() as stack:
        # The parameters are not validated, because validation would add all other parameters with their
        # defaults. The given parameters are valid, because they come from a valid configuration.
        noted = flow.with_options(on_running=[note_start, *hooks], validate_parameters=False)
        noted.fn = _without_retries_at_the_end(noted.fn, url, stack)
        try:
            return run_flow(noted, parameters=parameters)
        except CancelledRun:
            raise KeyboardInterrupt from None
        except Exception as error:
            if not started_runs and _is_from_prefect(error):
                raise NotStartedError(f"Prefect failed at the start: {error}") from error
            result = find_result(home, started_runs[0]) if started_runs else None
            if result is None:
                if fault := _users_fault(error):
                    raise fault from None
                raise
            log.warning("the end of this run is not recorded in Prefect (%s); the next run records it", error)
            return result


def _without_retries_at_the_end(
    function: Callable[..., Any], url: str, stack: ExitStack
) -> Callable[..., Any]:
    """Wrap the flow's function so that, if the server hangs when the flow ends, the flow's last state is sent
    without retries.

    If Prefect cannot send the last state of a flow, it makes a second attempt, and each attempt includes all
    HTTP retries, which takes five minutes in total. A server that refuses connections may be restarting, so
    for such a server the retries are kept.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            if _hangs(url):
                stack.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))

    return run


def _hangs(url: str) -> bool:
    """Whether the server accepts a connection but does not answer."""
    try:
        httpx.get(f"{url}/health", timeout=ANSWER_SECONDS)
    except httpx.ReadTimeout:
        return True
    except httpx.HTTPError:
        return False
    return False


def _is_from_prefect(error: BaseException) -> bool:
    return isinstance(error, httpx.HTTPError) or isinstance(error.__cause__, httpx.HTTPError)


def _users_fault(error: BaseException | None) -> InputError | None:
    """The InputError that ended the flow, even if Prefect raised `error` while recording the end."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _run_unrecorded(flow: Flow[..., Any], parameters: dict[str, Any]) -> Any:
    """Call the flow as a plain function. Its tasks run outside a flow and send no requests to a server."""
    settings = {
        PREFECT_API_URL: NOWHERE,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    EventsWorker.set_client_override(NullEventsClient)
    try:
        with temporary_settings(settings):
            returned = flow.fn(**flow.validate_parameters(parameters))
            return returned.result() if isinstance(returned, State) else returned
    except CancelledRun:
        raise KeyboardInterrupt from None
    finally:
        EventsWorker.set_client_override(None)
