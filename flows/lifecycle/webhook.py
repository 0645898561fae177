"""Notices: one line to a webhook where somebody on call would want to know.

A run that failed, one that died, a champion that another version replaces. Slack, Mattermost and
whatever reads the `text` of a JSON object understand it; the address is a setting, REPARTEE_NOTICE_URL.
"""

import logging
from typing import Any

import httpx2
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.utilities.urls import url_for
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from corpus.transfer.guard import silence_request_log
from flows.lifecycle.outcome import Outcome
from models.addresses import bare
from settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S, TRIES = 3.0, 2  # an unreachable receiver holds a run's end up by seven seconds at most
MAX_REASON = 500  # characters


def notice(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A flow's hook for its ends: those of which somebody wants to hear are told."""
    if not state.is_completed():
        tell(flow_run, state)
        return
    outcome = state.result()
    if outcome.outcome in ("promoted", "trained_not_registered"):
        tell(flow_run, state, outcome)  # otherwise the champion stays or nothing changed: a normal night


def tell(flow_run: FlowRun, state: State[Any], outcome: Outcome | None = None) -> None:
    """How a run ended, to whoever listens at REPARTEE_NOTICE_URL."""
    reason = " ".join((state.message or "").split())[:MAX_REASON]
    _send(
        {
            "text": f"Repartee: {flow_run.name}: {reason if outcome else f'{state.name}: {reason}'}",
            "run": flow_run.name,
            "state": state.name,
            "outcome": outcome.outcome if outcome else None,
            "reason": reason,
            "recipe": flow_run.parameters.get("recipe"),
            "corpus": bare(flow_run.parameters.get("corpus") or "") or None,
            "url": bare(url_for(flow_run) or "") or None if Settings().prefect_url else None,
        }
    )


def _send(told: dict[str, Any]) -> None:
    """Deliver it, or say in the run's logs that it was not; the address is a secret and stands nowhere."""
    address = Settings().notice_url
    if not address:  # an env file may hold an empty one
        return
    silence_request_log()  # which would hold the address
    again = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_fixed(1),
        retry=retry_if_exception_type(httpx2.TransportError),
        reraise=True,
    )
    try:
        answer = again(httpx2.post, address.get_secret_value(), json=told, timeout=TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        log.warning("the notice was not delivered (REPARTEE_NOTICE_URL): %s", type(error).__name__)
        return
    if answer.status_code >= 400:
        log.warning("the notice was refused (REPARTEE_NOTICE_URL): status %d", answer.status_code)
