"""Reporting: what is sent to Prefect about a run. A failure here never ends the run."""

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.context import FlowRunContext, SyncClientContext
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # of a request, which is sent twice if the first one is not answered

P = ParamSpec("P")
Result = TypeVar("Result")


def report(send: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result | None:
    """Call a function that sends something to Prefect.

    Returns:
        What the function returns; None, after a warning, if Prefect refuses it or does not answer in time.
    """
    if FlowRunContext.get() is None:  # outside of a flow there is no server
        return None
    settings = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
    try:
        # With a client of its own: that of the run would repeat the request for minutes.
        with temporary_settings(settings), SyncClientContext(httpx_settings={"timeout": TIMEOUT_S}):
            return send(*args, **kwargs)
    except Exception as error:
        log.warning("Prefect was not sent a report (%s): %s: %s", send.__name__, type(error).__name__, error)
        return None
