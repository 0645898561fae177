"""Reporting: send information about a run to Prefect. A failed request never ends the run."""

import logging
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.context import FlowRunContext, SyncClientContext
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0  # per request; a request that gets no response is sent once more

P = ParamSpec("P")
Result = TypeVar("Result")


def report(send: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result | None:
    """Call a function that sends something to Prefect.

    Returns:
        The function's result. If Prefect refuses the request or does not answer in time, a warning is logged
        and the result is None.
    """
    if FlowRunContext.get() is None:  # outside of a flow there may be no Prefect server
        return None
    settings = {PREFECT_CLIENT_MAX_RETRIES: 1, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
    try:
        # The request uses a separate client, because the run's client would retry it for minutes.
        with temporary_settings(settings), SyncClientContext(httpx_settings={"timeout": TIMEOUT_S}):
            return send(*args, **kwargs)
    except Exception as error:
        log.warning("could not report to Prefect (%s): %s: %s", send.__name__, type(error).__name__, error)
        return None


def key_prefix(model: str) -> str:
    """The name of a registered model in lower-case letters, digits and dashes, as artifact keys require."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "repartee"
