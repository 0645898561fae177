"""Train: the stage that trains a model, with its metrics in MLflow and its progress in Prefect."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from models.errors import TrackingUnavailable
from models.metrics_log import METRICS, checkpointed_size
from models.registry.metrics_forwarder import MetricsForwarder
from models.registry.runs import RunStatus
from models.registry.versions import Registry
from models.training.launch import TrainingConfig, train_model
from tasks.prefect_api.deletion import RunDeleted, deletions, raise_if_deleted, sources_of
from tasks.prefect_api.reporting import report
from tasks.store.artifact import Artifact, find
from tasks.store.stage import Stage, digests_of, named

log = logging.getLogger(__name__)

AWAY_SECONDS = 55  # added to the usual five


class Reporter:
    """Shows each step line in the terminal, and now and then in Prefect and its logs."""

    def __init__(self) -> None:
        self.progress = logging.getLogger("progress")
        self.artifact = cast(UUID | None, report(create_progress_artifact, 0.0, description="training"))
        self.shown_s = time.monotonic()
        self.logged_s = time.monotonic()

    def __call__(self, metrics: dict[str, Any]) -> None:
        if metrics["kind"] == "epoch":
            log.info("train: %s", _epoch_line(metrics))
        if metrics["kind"] == "notice" and metrics["level"] in ("INFO", "WARNING"):
            # An error is the last line of a training that fails: the exception has it.
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
        self._show(100.0, "training has ended")

    def _show(self, percent: float, line: str) -> None:
        """In Prefect; where that does not answer, the next try is a minute away, and the training goes on."""
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


STAGE = Stage("train", train_model, resumable=True)


@task(task_run_name="train")
def train(
    vocabulary: Artifact,
    export: Artifact,
    config: TrainingConfig,
    home: Path,
    registry: Registry,
    params: dict[str, Any],
    tags: dict[str, str],
    start: Artifact | None = None,
) -> Artifact:
    """Train, with the metrics in MLflow and the progress in Prefect while it goes on."""
    inputs = {"vocabulary": vocabulary, "export": export}
    if start is not None:
        inputs["start"] = start
    fingerprint = STAGE.fingerprint(config, digests_of(inputs))
    if find(home, STAGE.name, fingerprint):
        return named(STAGE.run(home, config, inputs))
    reporter = Reporter()
    run_id = _open_run(registry, fingerprint, params, tags)
    status: RunStatus = "FAILED"
    try:
        trained = _make(home, config, inputs, fingerprint, reporter, registry, run_id, tags)
        status = "FINISHED"
    except BaseException as error:
        # Told to stop: Ctrl-C, SIGTERM, cancelled or deleted in a dashboard.
        if isinstance(error, RunDeleted) or not isinstance(error, Exception):
            status = "KILLED"
        raise
    finally:
        _close_run(registry, run_id, status)
    reporter.done()
    return named(trained)


def _make(
    home: Path,
    config: TrainingConfig,
    inputs: dict[str, Artifact],
    fingerprint: str,
    reporter: Reporter,
    registry: Registry,
    run_id: str | None,
    tags: dict[str, str],
) -> Artifact:
    """The stage itself, with all that looks on."""
    work = home / "runs" / fingerprint
    with ExitStack() as watching:
        if run_id is not None:
            watching.enter_context(
                MetricsForwarder(registry, run_id, work / METRICS, certain=lambda: checkpointed_size(work))
            )
        sources = sources_of(registry, run_id, tags.get("prefect.flow_run_id"))
        deleted = watching.enter_context(deletions(sources))
        context = {"watch": reporter, "check": lambda: raise_if_deleted(deleted, work)}
        return STAGE.run(home, config, inputs, context=context)


def _open_run(
    registry: Registry, fingerprint: str, params: dict[str, Any], tags: dict[str, str]
) -> str | None:
    """The MLflow run of a training; none where MLflow does not answer, and the training needs none."""
    try:
        return registry.open_run(fingerprint, name=tags["repartee.run_name"], params=params, tags=tags)
    except TrackingUnavailable as outage:
        log.info("train: trains without MLflow, which gets the curves later")
        log.debug("train: %s", outage)
        return None


def _close_run(registry: Registry, run_id: str | None, status: RunStatus) -> None:
    """What goes wrong here is a line, not the end of the training or in the way of its own error."""
    try:
        if run_id is not None and not registry.is_deleted(run_id):
            registry.close_run(run_id, status)
    except Exception as error:
        log.warning("train: MLflow run %s stays open until the next start: %s", run_id, error)
