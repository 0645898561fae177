"""Heartbeat: the sign of life of a run of the command line, for the automation that misses the dead.

Prefect's own is a thread that looks once a second whether its flow has ended, and for which the flow
waits: a run that reuses everything would take twice as long.
"""

import contextvars
import threading
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.flows import Flow

from environment import HEARTBEAT_SECONDS

BEAT = "prefect.flow-run.heartbeat"  # the name of Prefect's


class Heart:
    """Beats from a flow's start, as its hook, until the block ends."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def __enter__(self) -> "Heart":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def begin(self, flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        # With this thread's context, which knows the server.
        beats = contextvars.copy_context().run
        threading.Thread(target=beats, args=(self._beat, beat_of(flow, flow_run)), daemon=True).start()

    def _beat(self, beat: dict[str, Any]) -> None:
        while True:
            emit_event(**beat)
            if self._stop.wait(HEARTBEAT_SECONDS):
                return


def beat_of(flow: Flow[..., Any], flow_run: FlowRun) -> dict[str, Any]:
    """The event: of which run, and of which flow, by which the automation knows ours."""
    return {
        "event": BEAT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow_run.flow_id}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": flow.name,
            }
        ],
    }
