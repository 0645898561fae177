"""Reporting: what Prefect is sent about a run. It may fail, and what it reports on goes on."""

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.context import FlowRunContext, SyncClientContext
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # of a request, of which there are two where the first is not answered

P = ParamSpec("P")
Result = TypeVar("Result")


def report(send: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result | None:
    """Call what sends something to Prefect; None, after a warning, where that takes it not or not soon."""
    if FlowRunContext.get() is None:  # no flow, no server
        return None
    settings = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
    try:
        # In a context of its own: the client of the run tries again for minutes.
        with temporary_settings(settings), SyncClientContext(httpx_settings={"timeout": TIMEOUT_S}):
            return send(*args, **kwargs)
    except Exception as error:
        log.warning("Prefect was not sent a report (%s): %s: %s", send.__name__, type(error).__name__, error)
        return None
