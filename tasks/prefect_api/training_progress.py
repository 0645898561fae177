"""The progress of training in the terminal, in the logs of the run, and in Prefect's progress artifact."""

import logging
import time
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from models.metrics_log import EPOCH, NOTICE, STEP, VALIDATION
from models.quantities import duration_text
from tasks.prefect_api.reporting import report

log = logging.getLogger("tasks.train")
terminal = logging.getLogger("progress")

ARTIFACT_SECONDS = 5.0
LOG_SECONDS = 60.0
AWAY_SECONDS = 55.0  # added to ARTIFACT_SECONDS if Prefect does not answer


class TrainingProgress:
    """A function that is called with each line of metrics.jsonl. It shows the progress in the terminal,
    updates Prefect's progress artifact every five seconds, and logs a line every minute."""

    def __init__(self) -> None:
        self.artifact = cast(UUID | None, report(create_progress_artifact, 0.0, description="training"))
        self.validation_bpb: float | None = None
        self.next_artifact_s = time.monotonic() + ARTIFACT_SECONDS
        self.next_log_s = time.monotonic() + LOG_SECONDS

    def __call__(self, metrics: dict[str, Any]) -> None:
        kind = metrics["kind"]
        if kind == EPOCH:
            log.info("train: %s", epoch_line(metrics))
        elif kind == NOTICE and metrics["level"] in ("INFO", "WARNING"):
            # Error lines are not shown here, because each error also ends training with an exception that
            # contains the same message.
            log.log(logging.getLevelName(metrics["level"]), "train: %s", metrics["message"])
        elif kind == VALIDATION:
            self.validation_bpb = metrics["bpb"]
        elif kind == STEP:
            self._show_step(metrics)

    def done(self) -> None:
        self._update_artifact(100.0, "the training has finished")

    def _show_step(self, metrics: dict[str, Any]) -> None:
        line = step_line(metrics, self.validation_bpb)
        figures = {**metrics, "validation_bpb": self.validation_bpb}
        if time.monotonic() > self.next_artifact_s:
            self._update_artifact(min(100.0, 100 * metrics["progress"]), line)
        is_logged = time.monotonic() > self.next_log_s  # the terminal shows the lines of the log, too
        if is_logged:
            self.next_log_s = time.monotonic() + LOG_SECONDS
        (log if is_logged else terminal).info("train: %s", line, extra={"training": figures})

    def _update_artifact(self, percent: float, line: str) -> None:
        """Update the progress artifact; if Prefect does not answer, try again only after a minute."""
        shown = self.artifact and report(
            update_progress_artifact, self.artifact, progress=percent, description=line
        )
        self.next_artifact_s = time.monotonic() + ARTIFACT_SECONDS + (0 if shown else AWAY_SECONDS)


def step_line(metrics: dict[str, Any], validation_bpb: float | None) -> str:
    """The state of training as one readable line."""
    bpb = "" if validation_bpb is None else f"validation {validation_bpb:.3f} bits per byte  "
    return (
        f"{100 * metrics['progress']:3.0f} %  step {metrics['step']:,}  loss {metrics['loss']:.3f}  "
        f"accuracy {metrics['accuracy']:.1%}  {bpb}{metrics['tokens_per_second']:,.0f} tokens/s  "
        f"{duration_text(metrics['seconds_left'])} left"
    )


def epoch_line(metrics: dict[str, Any]) -> str:
    """The metrics of a finished epoch as one readable line."""
    return (
        f"epoch {metrics['epoch']:g}  loss {metrics['train_loss']:.3f}  "
        f"accuracy {metrics['train_accuracy']:.1%}  "
        f"validation loss {metrics['validation_loss']:.3f}  accuracy {metrics['validation_accuracy']:.1%}  "
        f"{metrics['validation_bpb']:.3f} bits per byte"
    )
