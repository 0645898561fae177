"""Train: the stage that trains a model, with its metrics in MLflow and its progress in Prefect."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from models.errors import TrackingUnavailable
from models.metrics_log import METRICS, checkpointed_size
from models.registry.metrics_forwarder import MetricsForwarder
from models.registry.runs import RunStatus
from models.registry.versions import Registry
from models.training.launch import train_model
from tasks.prefect_api.deletion import RunDeleted, deletions, raise_if_deleted, sources_of
from tasks.prefect_api.reporting import report
from tasks.store.run_context import RunContext
from tasks.store.stage import Stage

log = logging.getLogger(__name__)

AWAY_SECONDS = 55  # added to the usual five while Prefect does not answer


class Reporter:
    """Shows each step in the terminal, every five seconds in Prefect, and every minute in the logs."""

    def __init__(self) -> None:
        self.progress = logging.getLogger("progress")
        self.artifact = cast(UUID | None, report(create_progress_artifact, 0.0, description="training"))
        self.shown_s = time.monotonic()
        self.logged_s = time.monotonic()

    def __call__(self, metrics: dict[str, Any]) -> None:
        if metrics["kind"] == "epoch":
            log.info("train: %s", _epoch_line(metrics))
        if metrics["kind"] == "notice" and metrics["level"] in ("INFO", "WARNING"):
            # An error ends the training, and is in its exception.
            log.log(logging.getLevelName(metrics["level"]), "train: %s", metrics["message"])
        if metrics["kind"] != "step":
            return
        line = _step_line(metrics)
        self.progress.info("train: %s", line)
        if time.monotonic() - self.shown_s > 5:
            self._show(min(100.0, 100 * metrics["progress"]), line)
        if time.monotonic() - self.logged_s > 60:
            self.logged_s = time.monotonic()
            log.info("train: %s", line)

    def done(self) -> None:
        self._show(100.0, "the training has finished")

    def _show(self, percent: float, line: str) -> None:
        """Show it in Prefect. If Prefect does not answer, the training goes on, and the next try waits."""
        shown = self.artifact and report(
            update_progress_artifact, self.artifact, progress=percent, description=line
        )
        self.shown_s = time.monotonic() + (0 if shown else AWAY_SECONDS)


def _step_line(metrics: dict[str, Any]) -> str:
    left = int(metrics["seconds_left"])
    return (
        f"{100 * metrics['progress']:3.0f} %  step {metrics['step']:,}  loss {metrics['loss']:.3f}  "
        f"accuracy {metrics['accuracy']:.1%}  {metrics['tokens_per_second']:,.0f} tokens/s  "
        f"{left // 60}:{left % 60:02d} left"
    )


def _epoch_line(metrics: dict[str, Any]) -> str:
    return (
        f"epoch {metrics['epoch']:g}  loss {metrics['train_loss']:.3f}  "
        f"accuracy {metrics['train_accuracy']:.1%}  "
        f"validation loss {metrics['validation_loss']:.3f}  accuracy {metrics['validation_accuracy']:.1%}"
    )


@contextmanager
def _watched(run: RunContext, fingerprint: str) -> Iterator[dict[str, Any]]:
    """While a training runs: its MLflow run, its metrics there, its progress in Prefect, and its deletion.

    Yields the arguments with which `train_model` reports each line of metrics and stops a deleted run.
    """
    reporter = Reporter()
    run_id = _open_run(run, fingerprint)
    work = run.home / "runs" / fingerprint
    status: RunStatus = "FAILED"
    try:
        with ExitStack() as stack:
            if run_id is not None:
                stack.enter_context(
                    MetricsForwarder(
                        run.registry, run_id, work / METRICS, certain=lambda: checkpointed_size(work)
                    )
                )
            sources = sources_of(run.registry, run_id, run.flow_run_id)
            deleted = stack.enter_context(deletions(sources))
            yield {"watch": reporter, "check": lambda: raise_if_deleted(deleted, work)}
        status = "FINISHED"
    except BaseException as error:
        # Stopped by Ctrl-C or SIGTERM, or cancelled or deleted in a dashboard.
        if isinstance(error, RunDeleted) or not isinstance(error, Exception):
            status = "KILLED"
        raise
    finally:
        _close_run(run.registry, run_id, status)
    reporter.done()


train = Stage(
    "train",
    train_model,
    reads=("vocabulary", "export"),
    may_read=lambda config: ("start",),
    attend=_watched,
    resumable=True,
    unit="steps",
)


def _open_run(run: RunContext, fingerprint: str) -> str | None:
    """The MLflow run of a training, or None if MLflow does not answer: the training needs none."""
    try:
        return run.registry.open_run(fingerprint, name=run.name, params=run.params, tags=run.tags)
    except TrackingUnavailable as outage:
        log.info("train: MLflow does not answer; it gets the curves later")
        log.debug("train: %s", outage)
        return None


def _close_run(registry: Registry, run_id: str | None, status: RunStatus) -> None:
    """Close the MLflow run. If that fails, a warning says so: the training and its own error stand."""
    try:
        if run_id is not None and not registry.is_deleted(run_id):
            registry.close_run(run_id, status)
    except Exception as error:
        log.warning("train: MLflow run %s stays open until the next start: %s", run_id, error)
