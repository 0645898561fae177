"""Launches the trainer, a separate process that trains on the examples and writes a model folder.

The trainer (`python -m models.training.trainer`) knows neither Prefect nor MLflow. It works in the folder
runs/FINGERPRINT, from which training resumes after a kill. The parent process reads the trainer's log files
while they grow.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from pydantic import ConfigDict

from models.config import Config
from models.errors import InputError
from models.files import PROJECT
from models.metrics_log import ELAPSED, METRICS, NOTICES, Reader
from models.network.config import NetworkConfig
from models.processes import end_process
from models.record import Record
from models.text.config import DIALOGUE, Dialogue
from models.training.config import TrainConfig
from models.training.trunk import files as trunk_files
from models.training.trunk.files import FOLDER, MODEL

log = logging.getLogger(__name__)

SUMMARY, PRECISION = "summary.json", "precision.json"
LOGS = (METRICS, "train.log", SUMMARY, PRECISION, ELAPSED)

POLL_SECONDS = 0.5
GRACE_SECONDS = 20  # from SIGTERM to SIGKILL; writing a checkpoint takes less time

Watch = Callable[[dict[str, Any]], None]


class TrainingConfig(Config):
    network: NetworkConfig
    train: TrainConfig


class Summary(Record):
    """The result of a training run; after a warm start it also has keys of the form `start_tokens_...`."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    parameters: int = 0
    steps: int
    epochs: float = 0.0
    seconds: float = 0.0
    train_tokens: int = 0
    best_validation_bpb: float | None = None
    best_step: int = 0
    night: int = 0
    """The number of nights that have trained the trunk; 0 if the training run left no trunk."""
    trunk_bpb: float | None = None
    """The bits per byte on the sample of the validation split on which the nights of a trunk are compared;
    None if the training run left no trunk."""
    stopped_by: str = ""
    precision: str
    fast_path: str = "off"
    skipped_steps: int = 0
    device: str
    processes: int = 1
    workers: int = 1
    threads: int = 1
    processor: str = ""
    """The product name of the GPU, or without a GPU that of the processor."""

    def choices(self) -> dict[str, str]:
        """The choices that the trainer made for this machine; on another machine they may be different."""
        return {"precision": self.precision, "device": self.device, "fast_path": self.fast_path}


def train_model(
    out: Path,
    config: TrainingConfig,
    vocabulary: Path,
    export: Path,
    start: Path | None = None,
    *,
    work: Path,
    watch: Watch,
    check: Callable[[], None] = lambda: None,
    trunk: Path | None = None,
    next_trunk: Path | None = None,
    replay: Path | None = None,
) -> int:
    """Run the trainer in `work`, then write model/ and logs/ to `out`; returns the number of steps.

    `watch` is called with each line of metrics.jsonl and notices.jsonl; `check` is called between two reads.
    With `next_trunk`, the run is a night of a model line: it goes on from `trunk` (from random weights if
    that is None), and leaves its own trunk in the folder `next_trunk`. With `replay`, a folder with the logs
    of an earlier run, the precision and the elapsed time at each step are those of that run.

    Raises:
        Exception: the trainer has failed, or `check` has raised an error and the trainer has been stopped.
    """
    work.mkdir(parents=True, exist_ok=True)
    night = None if next_trunk is None else {"parent": None if trunk is None else str(trunk)}
    others = {"start": trunk / MODEL if trunk else start, "night": night, "replay": replay}
    _write_config(work, config, vocabulary, export, others)
    if replay is not None and not (work / PRECISION).exists():
        shutil.copy(replay / PRECISION, work / PRECISION)
    _run_trainer(work, watch, check)
    if next_trunk is not None and (work / FOLDER).exists():
        trunk_files.copy(work / FOLDER, next_trunk)
    shutil.copytree(work / "model", out / "model")
    copy_logs(work, out / "logs")
    return Summary.read(work / SUMMARY).steps


def _run_trainer(work: Path, watch: Watch, check: Callable[[], None]) -> None:
    readers = [Reader(work / METRICS), Reader(work / NOTICES)]
    for reader in readers:
        reader.skip()  # an earlier run of this command, which was interrupted, has already shown these lines
    try:
        with _trainer(work) as process:
            for line in follow(readers, process, check):
                _report(watch, line)
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C, SIGTERM, cancelled in the dashboard
            log.warning("train: stopped. %s", _checkpoint_left(work))
        raise
    if process.returncode:
        raise _failure(work, process.returncode)


def copy_logs(source: Path, target: Path) -> None:
    """Copy those logs of a training run that exist; earlier releases did not write all of them."""
    target.mkdir(parents=True, exist_ok=True)
    for name in LOGS:
        if (source / name).exists():
            shutil.copy(source / name, target / name)


def _write_config(
    work: Path,
    config: TrainingConfig,
    vocabulary: Path,
    export: Path,
    others: Mapping[str, Path | dict[str, str | None] | None],
) -> None:
    """Write config.json, which contains the trainer's settings and the paths of its inputs.

    Those of the `others` that are None are left out.
    """
    run = {
        **config.model_dump(mode="json"),
        **Dialogue.read(export / DIALOGUE).model_dump(),
        "tokenizer": str(vocabulary),
        "examples": str(export),
    }
    for name, value in others.items():
        if value is not None:
            run[name] = str(value) if isinstance(value, Path) else value
    (work / "config.json").write_text(json.dumps(run, indent=2) + "\n")


@contextmanager
def _trainer(work: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A context in which the trainer runs, as a process group that never outlives this process.

    The standard input of the trainer is a pipe from this process. However this process ends, the pipe then
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
                "PYTORCH_ENABLE_MPS_FALLBACK": "1",  # the CPU does what Apple's GPU does not support
                **os.environ,
            },
        )
    try:
        yield process
    finally:
        cast(IO[bytes], process.stdin).close()  # also ends the ranks, which no signal reaches
        if process.poll() is None:
            log.warning("train: stopping after the next checkpoint")
            end_process(process, GRACE_SECONDS, group=True)


def follow(
    readers: Sequence[Reader], process: subprocess.Popen[bytes], check: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """Yield new lines of growing files until the process that writes them has ended or `check` raises."""
    ended = False
    while not ended:
        ended = process.poll() is not None  # checked before the last read, so that no line is missed
        for reader in readers:
            yield from reader.read()
        if not ended:
            check()
            time.sleep(POLL_SECONDS)


def _report(watch: Watch, line: dict[str, Any]) -> None:
    """Pass a line to `watch`; if that fails, log a warning and let the training run continue."""
    try:
        watch(line)
    except Exception as error:
        log.warning("train: a line of the metrics could not be shown: %s: %s", type(error).__name__, error)


def _checkpoint_left(work: Path) -> str:
    steps = [int(path.name) for path in (work / "checkpoints").glob("[0-9]*") if path.name.isdecimal()]
    if not steps:
        return "There was no checkpoint yet, so the same command starts training from scratch."
    return f"The checkpoint at step {max(steps):,} is kept, and the same command resumes from it."


def _failure(work: Path, status: int) -> Exception:
    lines = (work / "stderr.log").read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it gave no reason"
    if status == 2:
        return InputError(last)
    return RuntimeError(f"the trainer ended with status {status}: {last} ({work / 'stderr.log'})")
