"""Train: the examples become a model folder, in a process of its own.

The trainer (`python -m models.training.trainer`) knows neither Prefect nor MLflow. It works in
runs/FINGERPRINT, where a killed one goes on; this task watches its metrics.jsonl.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from models.config import Config
from models.errors import InputError, TrackingUnavailable
from models.files import PROJECT
from models.metrics_log import METRICS, NOTICES, Reader, checkpointed_size
from models.network.config import NetworkConfig
from models.registry.metrics_forwarder import MetricsForwarder
from models.registry.runs import RunStatus
from models.registry.versions import Registry
from models.training.config import TrainConfig
from tasks.prefect_api.deletion import RunDeleted, deletions, raise_if_deleted, sources_of
from tasks.prefect_api.reporting import report
from tasks.store.artifact import Artifact, find
from tasks.store.stage import Stage, digests_of, named

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
AWAY_SECONDS = 55  # added to the usual five
GRACE_SECONDS = 20  # from SIGTERM to SIGKILL: a checkpoint is written within

Watch = Callable[[dict[str, Any]], None]


class TrainingConfig(Config):
    network: NetworkConfig
    train: TrainConfig


def train_model(
    out: Path,
    config: TrainingConfig,
    vocabulary: Path,
    export: Path,
    start: Path | None = None,
    *,
    work: Path,
    watch: Watch,
    deleted: list[str],
) -> int:
    """Run the trainer in `work` until it ends; model/ and logs/ go to `out`; returns the steps made.

    Raises:
        RunDeleted: its run was, says `deleted`.
    """
    work.mkdir(parents=True, exist_ok=True)
    made = json.loads((export / "dialogue.json").read_text())
    run = {**config.model_dump(mode="json"), **made, "tokenizer": str(vocabulary), "examples": str(export)}
    if start is not None:
        run["start"] = str(start)
    (work / "config.json").write_text(json.dumps(run, indent=2) + "\n")
    readers = [Reader(work / METRICS), Reader(work / NOTICES)]
    for reader in readers:
        reader.skip()  # an interrupted run of this command has shown it
    try:
        with _trainer(work) as process:
            for line in follow(readers, process, lambda: raise_if_deleted(deleted, work)):
                _report(watch, line)
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C, SIGTERM, cancelled in the dashboard
            log.warning("train: stopped; %s", _checkpoint_left(work))
        raise
    if process.returncode:
        raise _failure(work, process.returncode)
    shutil.copytree(work / "model", out / "model")
    (out / "logs").mkdir()
    for name in (METRICS, "train.log", "summary.json"):
        shutil.copy(work / name, out / "logs" / name)
    return int(json.loads((work / "summary.json").read_text())["steps"])


@contextmanager
def _trainer(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The trainer as a process group that never outlives this one.

    It reads the pipe on its standard input: when this process dies, however it dies, the pipe
    closes, and the trainer writes a checkpoint and ends.
    """
    command = [sys.executable, "-m", "models.training.trainer", str(work), "--until-stdin-closes"]
    with (work / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env={
                "OMP_WAIT_POLICY": "passive",
                "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # what Apple's GPU cannot do, the processor does
                **os.environ,
            },
        )
    try:
        yield process
    finally:
        cast(IO[bytes], process.stdin).close()  # ranks are in sessions of their own: they end by it
        if process.poll() is None:
            log.warning("train: stops; it writes a checkpoint first")
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def follow(
    readers: Sequence[Reader], process: subprocess.Popen[bytes], check: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """The new lines of growing files, until the process that writes them has ended, or a check raises."""
    ended = False
    while not ended:
        ended = process.poll() is not None  # looked up before the last read, so that no line is missed
        for reader in readers:
            yield from reader.read()
        if not ended:
            check()
            time.sleep(POLL_SECONDS)


def _report(watch: Watch, line: dict[str, Any]) -> None:
    """Show a line; one that cannot be shown is no reason to end the training that wrote it."""
    try:
        watch(line)
    except Exception as error:
        log.warning("train: a line of the training cannot be shown: %s: %s", type(error).__name__, error)


def _checkpoint_left(work: Path) -> str:
    steps = [int(path.name) for path in (work / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
    if not steps:
        return "it had no checkpoint yet, so the same command begins it anew"
    return f"its checkpoint at step {max(steps):,} is kept, and the same command goes on from there"


def _failure(work: Path, status: int) -> Exception:
    lines = (work / "stderr.log").read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    if status == 2:
        return InputError(last)
    return RuntimeError(f"the trainer ended with status {status}: {last} ({work / 'stderr.log'})")


class Reporter:
    """Shows each step line in the terminal, and now and then in Prefect and its logs."""

    def __init__(self) -> None:
        self.progress = logging.getLogger("progress")
        self.artifact = cast(UUID | None, report(create_progress_artifact, 0.0, description="training"))
        self.told_s = time.monotonic()
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
        if time.monotonic() - self.told_s > 5:
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
        self.told_s = time.monotonic() + (0 if shown else AWAY_SECONDS)


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


STAGE = Stage(
    "train",
    train_model,
    modules=("models.training.trainer",),
    resumable=True,
)


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
        made = _make(home, config, inputs, fingerprint, reporter, registry, run_id, tags)
        status = "FINISHED"
    except BaseException as error:
        # Told to stop: Ctrl-C, SIGTERM, cancelled or deleted in a dashboard.
        if isinstance(error, RunDeleted) or not isinstance(error, Exception):
            status = "KILLED"
        raise
    finally:
        _close_run(registry, run_id, status)
    reporter.done()
    return named(made)


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
        found = watching.enter_context(deletions(sources))
        return STAGE.run(home, config, inputs, context={"watch": reporter, "deleted": found})


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
