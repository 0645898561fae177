"""Stage events: how far the stages of a run are, attached to log records for a live display.

    log.info("parse: 3,000 turns in 0.5 s", extra=event("parse", "done", output="3,000 turns", seconds=0.5))

A handler that shows no display prints the message and ignores the event.
"""

from dataclasses import dataclass
from typing import Any, Literal

StageState = Literal["waiting", "running", "done", "reused"]
KEY = "stage_events"  # the attribute of the log record


@dataclass(frozen=True)
class StageEvent:
    """What a stage is doing since this event."""

    stage: str
    state: StageState
    output: str = ""
    """What the stage has made, counted in its own unit."""
    seconds: float | None = None
    """How long the stage took; None unless it is done."""


def event(stage: str, state: StageState, *, output: str = "", seconds: float | None = None) -> dict[str, Any]:
    """The `extra` argument of a log call that announces one event."""
    return {KEY: [StageEvent(stage, state, output, seconds)]}
