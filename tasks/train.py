"""Train: the stage that trains a model. Its metrics are shown in MLflow, and its progress in Prefect."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from models.errors import TrackingUnavailable
from models.metrics_log import METRICS, checkpointed_size
from models.registry.metrics_forwarder import MetricsForwarder
from models.registry.runs import RunStatus
from models.registry.versions import Registry
from models.training.launch import TrainingConfig, train_model
from tasks.prefect_api.deletion import RunDeleted, deletions, raise_if_deleted, sources_of
from tasks.prefect_api.training_progress import TrainingProgress
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import External, Stage, digests_of
from tasks.trunk.night import base_of, is_night, next_folder, parent_of

log = logging.getLogger(__name__)


@contextmanager
def _watched(run: RunContext, fingerprint: str) -> Iterator[dict[str, Any]]:
    """During training, send metrics to MLflow and progress to Prefect, and check whether the run is deleted.

    Yields arguments for `train_model`: a function to call with each line of metrics, and a function that
    raises an exception if the run is deleted.
    """
    progress = TrainingProgress()
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
            next_trunk = next_folder(run, fingerprint) if is_night(run) else None
            yield {
                "watch": progress,
                "check": lambda: raise_if_deleted(deleted, work),
                "next_trunk": next_trunk,
            }
        status = "FINISHED"
    except BaseException as error:
        # In these cases Ctrl-C or SIGTERM stopped the run, or a user cancelled or deleted it in a dashboard.
        if isinstance(error, RunDeleted) or not isinstance(error, Exception):
            status = "KILLED"
        raise
    finally:
        _close_run(run.registry, run_id, status)
    progress.done()


def _trunk(run: RunContext, config: TrainingConfig, inputs: Mapping[str, Artifact]) -> External:
    """The trunk from which a night goes on; nothing if the run is no night."""
    if not is_night(run):
        return External()
    base = base_of(train.ingredients(config, digests_of(inputs)))
    parent = parent_of(run, base)
    return External(f"trunk: {parent.digest}", {"trunk": parent.folder})


train = Stage(
    "train",
    train_model,
    reads=("vocabulary", "export"),
    may_read=lambda config: ("start",),
    external=_trunk,
    outside="the trunk",
    attend=_watched,
    resumable=True,
    unit="steps",
)


def _open_run(run: RunContext, fingerprint: str) -> str | None:
    """Open the MLflow run; return None if MLflow does not answer, because training does not need MLflow."""
    try:
        return run.registry.open_run(fingerprint, name=run.name, params=run.params, tags=run.tags)
    except TrackingUnavailable as outage:
        log.info("train: training without MLflow; the curves will be sent later")
        log.debug("train: %s", outage)
        return None


def _close_run(registry: Registry, run_id: str | None, status: RunStatus) -> None:
    """Close the MLflow run. A failure is only logged, so that it does not hide the result of training."""
    try:
        if run_id is not None and not registry.is_deleted(run_id):
            registry.close_run(run_id, status)
    except Exception as error:
        log.warning("train: MLflow run %s stays open until the next start: %s", run_id, error)
