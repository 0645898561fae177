"""Webhook: send a one-line notice of a run that an operator should know about.

A notice is sent if a run fails, crashes, is missed, promotes a version, or cannot register its model. If
REPARTEE_NOTICE_REFUSED is true, a notice is also sent if the gate refuses the new model. The notice is a JSON
object whose field `text` is shown by Slack, Mattermost and others. It is sent to the address in the setting
REPARTEE_NOTICE_URL.
"""

import logging
from typing import Any

import httpx2
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from corpus.transfer.guard import silence_request_log
from flows.lifecycle.context import url_of
from flows.lifecycle.parameters import line_of
from models.addresses import redact_addresses
from models.errors import DataRejected
from settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S, TRIES = 3.0, 2  # an unreachable receiver delays the end of a run by seven seconds at most
MAX_REASON = 500  # characters
DATA_REJECTED = "data.rejected"  # the outcome in the notice of a run whose corpus was rejected


def notice(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook that runs when a flow ends, and sends a notice if an operator should know how the run ended."""
    if not state.is_completed():
        rejected = state.is_failed() and isinstance(state.result(raise_on_failure=False), DataRejected)
        send_notice(flow_run, state, DATA_REJECTED if rejected else None)
        return
    outcome = state.result()
    optional = ("refused",) if Settings().notice_refused else ()
    if outcome.outcome in ("promoted", "trained_not_registered", *optional):
        send_notice(flow_run, state, outcome.outcome)


def send_notice(flow_run: FlowRun, state: State[Any], outcome: str | None = None) -> None:
    """Send to REPARTEE_NOTICE_URL, if it is set, a notice that says how a run ended."""
    reason = " ".join((state.message or "").split())[:MAX_REASON]
    text = reason if state.is_completed() else f"{state.name}: {reason}"
    _send(_message(flow_run, text, state.name, outcome, reason))


def send_missed(flow_run: FlowRun, schedule: str, count: int) -> None:
    """Send a notice that runs of a schedule did not start when they were due.

    Args:
        flow_run: the newest of these runs, which starts now.
        count: the number of runs that were due while the services were down.
    """
    missed = "1 run was" if count == 1 else f"{count} runs were"
    due = f"{flow_run.expected_start_time:%Y-%m-%d %H:%M} UTC" if flow_run.expected_start_time else "unknown"
    reason = (
        f"schedule {schedule}: {missed} missed while the services were down; the newest, which was due at "
        f"{due}, starts now"
    )
    _send(_message(flow_run, reason, "Late", "missed", reason))


def _message(
    flow_run: FlowRun, text: str, state: str | None, outcome: str | None, reason: str
) -> dict[str, Any]:
    settings = Settings()
    return {
        "text": f"Repartee: {flow_run.name}: {text}",
        "run": flow_run.name,
        "state": state,
        "outcome": outcome,
        "reason": reason,
        "line": line_of(flow_run.parameters) or settings.model_name,
        "recipe": flow_run.parameters.get("recipe"),
        "corpus": redact_addresses(flow_run.parameters.get("corpus") or "") or None,
        "url": url_of(flow_run, settings),
    }


def _send(message: dict[str, Any]) -> None:
    """Deliver the message, or log a warning without the address, which is secret."""
    address = Settings().notice_url
    if not address:  # the variable may be set to an empty text in an env file
        return
    silence_request_log()  # the log lines of requests would contain the address
    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_fixed(1),
        retry=retry_if_exception_type(httpx2.TransportError),
        reraise=True,
    )
    try:
        answer = retrying(httpx2.post, address.get_secret_value(), json=message, timeout=TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        log.warning("the notice was not delivered (REPARTEE_NOTICE_URL): %s", type(error).__name__)
        return
    if answer.status_code >= 400:
        log.warning("the notice was refused (REPARTEE_NOTICE_URL): status %d", answer.status_code)
