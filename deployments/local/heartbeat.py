"""Heartbeat: the events that show that a run started from the command line is alive.

An automation (deployments/install.py) marks a run as crashed when its heartbeat stops. Prefect's own
heartbeat is not used, because its thread checks only once a second whether the flow has ended, and the flow
waits for this thread. With Prefect's heartbeat, a run that reuses all outputs would take twice as long.
"""

import contextvars
import threading
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.flows import Flow

from environment import HEARTBEAT_SECONDS

EVENT = "prefect.flow-run.heartbeat"  # the name of Prefect's own heartbeat event


class Heart:
    """Emits a heartbeat every 30 s, from the time when Prefect calls the hook `start` until the `with` block
    ends."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def __enter__(self) -> "Heart":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def start(self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        """The hook that Prefect calls when the flow starts."""
        # The new thread needs a copy of this thread's context, which contains the address of the server.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._emit, heartbeat_event(flow, flow_run)), daemon=True).start()

    def _emit(self, event: dict[str, Any]) -> None:
        while True:
            emit_event(**event)
            if self._stop.wait(HEARTBEAT_SECONDS):
                return


def heartbeat_event(flow: Flow[..., Any], flow_run: FlowRun) -> dict[str, Any]:
    """The heartbeat of a run. It contains the id of the flow, by which the automation recognises Repartee's
    runs."""
    return {
        "event": EVENT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow.name,
            }
        ],
    }
