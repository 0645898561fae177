"""Stage events: the progress of the stages of a run, attached to log records for a live display.

    log.info("parse: 3,000 turns in 0.5 s", extra=event("parse", "done", output="3,000 turns", seconds=0.5))

A handler without a live display prints the message and ignores the event.
"""

from dataclasses import dataclass
from typing import Any, Literal

StageState = Literal["waiting", "running", "done", "reused"]
KEY = "stage_events"  # the attribute of the log record


@dataclass(frozen=True)
class StageEvent:
    """The state that a stage has entered."""

    stage: str
    state: StageState
    output: str = ""
    """The output of the stage in words, such as `3,000 turns`."""
    seconds: float | None = None
    """How long the stage took; None unless it is done."""


def event(stage: str, state: StageState, *, output: str = "", seconds: float | None = None) -> dict[str, Any]:
    """The `extra` argument of a log call that announces one event."""
    return {KEY: [StageEvent(stage, state, output, seconds)]}
