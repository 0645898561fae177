"""The trainer process: `python -m models.training.trainer RUN_DIR` trains a model, and resumes after a kill.

The process knows neither Prefect nor MLflow. It reads config.json and writes metrics.jsonl, train.log,
notices.jsonl, checkpoints and finally model/ and summary.json. Its exit status is 0 if training is complete,
2 for an error that the user can correct, 3 for any other error, and 143 or 130 if it was asked to stop.
If asked to stop, the process first writes a checkpoint, from which the same command resumes.
"""

import os

if __name__ == "__main__":
    # OpenMP reads this variable when torch starts threads: waiting threads then yield the core to others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import logging
import signal
import sys
import threading
import traceback
from contextlib import nullcontext
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from models import devices
from models.errors import InputError, is_out_of_space
from models.metrics_log import NoticeHandler
from models.processes import stop_on_signals, when_parent_ends
from models.training import checkpoint, distributed, preflight, validation
from models.training.attempts import fit_with_fallback
from models.training.launch import SUMMARY, Summary
from models.training.loop import Training
from models.training.run_folder import Run
from models.training.setup import num_cores

log = logging.getLogger(__name__)

LOCK_SECONDS = 30  # how long to wait for another trainer, which may be writing a last checkpoint
LOST_SECONDS = 10  # time for the launcher to end this process after another process has ended
STOPPED = 128 + signal.SIGTERM


def train(folder: Path, stop: threading.Event) -> bool:
    """Train in the run folder; returns True if training is complete, False if it was asked to stop.

    Raises:
        InputError: the config or the examples cannot be used, or another trainer is running in the folder.
    """
    run, group = Run.read(folder), distributed.init_process_group()
    try:
        with FileLock(folder / "lock", timeout=LOCK_SECONDS) if group.is_main else nullcontext():
            done, limit = fit_with_fallback(run, stop)
            # The main process must publish before the others end: once one process has ended, the launcher
            # ends all of them.
            with group.main_process_first():
                if limit is not None and group.is_main:
                    publish(done, limit)
            return limit is not None
    except Timeout:
        raise InputError(
            f"another training run is in progress in {folder}; wait until it ends, or end it"
        ) from None


def publish(training: Training, limit: str) -> None:
    """Write model/ with the best weights, then summary.json; `limit` is the setting that ended training.

    Raises:
        OSError: the disk is full.
    """
    training.set_weights(training.best)
    training.run.publish(training.model)
    run, step = training.run, training.step
    summary = Summary(
        parameters=training.model.num_parameters(),
        steps=training.state.step,
        epochs=training.state.epoch + training.state.batch_index / len(training.order),
        seconds=training.state.elapsed_s,
        train_tokens=training.state.tokens,
        best_validation_bpb=training.state.best_bpb,
        best_step=training.state.best_step,
        night=training.past.nights + 1 if run.is_night else 0,
        trunk_bpb=validation.night_bpb(run, training.model, step) if run.is_night else None,
        stopped_by=limit,
        precision=step.precision,
        fast_path="on" if step.path.packed else "off",
        skipped_steps=training.state.skipped,
        device=str(training.setup.device),
        processes=training.group.world_size,
        workers=step.workers,
        threads=torch.get_num_threads(),
        processor=devices.processor_name(training.setup.device),
        **{f"start_tokens_{name}": count for name, count in training.setup.start_token_counts.items()},
    )
    checkpoint.put_json(training.run.folder / SUMMARY, summary.model_dump())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.training.trainer", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the parent process ends")
    arguments = parser.parse_args()
    # Ranks other than 0 log errors only: otherwise each rank would print the same lines.
    is_main = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if is_main else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    if is_main:
        logging.getLogger("models").addHandler(NoticeHandler(arguments.run_dir))
    stop = threading.Event()
    signals = stop_on_signals(stop, second_ends=True)
    if arguments.until_stdin_closes:
        # Watch a copy of standard input, because launching ranks replaces standard input with another pipe.
        when_parent_ends(stop.set, os.dup(0))
    try:
        status = run_trainer(arguments.run_dir, stop)
    except Exception as error:
        return report_error(error, stop)
    return 128 + signals[0] if signals and status == STOPPED else status


def run_trainer(folder: Path, stop: threading.Event) -> int:
    """Train in this process, or launch a process group that trains; returns the exit status."""
    if not distributed.is_member():
        processes = distributed.num_processes(Run.read(folder).train.processes)
        if processes > 1:
            return distributed.launch(
                processes, num_cores(), stop, "-m", "models.training.trainer", str(folder)
            )
    else:
        threading.Thread(target=distributed.stop_with_launcher, args=(stop,), daemon=True).start()
    torch.set_num_threads(1 if num_cores() == 2 else max(1, num_cores() // 2))
    return 0 if train(folder, stop) else STOPPED


def report_error(error: Exception, stop: threading.Event) -> int:
    """Log the error in one final line, after a traceback if it is a bug; returns the exit status."""
    if isinstance(error, ConnectionError):
        # Another process has ended and logged the reason, and the launcher will now end this process, too.
        stop.clear()
        if stop.wait(LOST_SECONDS):
            return 3
    if isinstance(error, InputError):
        log.error("training: %s", error)
        return 2
    if isinstance(error, preflight.Defect):
        log.error("training: %s; correct the network, or start from another model", error)
    elif is_out_of_space(error):
        reason = str(error) if "disk is full" in str(error) else f"the disk is full ({error})"
        more = "earlier checkpoints are kept: free some space, then run the same command again to continue"
        log.error("training: %s; %s", reason, more)
        return 2
    elif isinstance(error, OSError):  # such as a missing folder: a traceback would not help
        log.error("training: %s; earlier checkpoints are kept: run the same command again to continue", error)
    else:
        log.error("%s", "".join(traceback.format_exception(error)))
        log.error("training: %s: %s", type(error).__name__, " ".join(str(error).split()))
    return 3


if __name__ == "__main__":
    ended = main()
    if distributed.is_member():
        # Skip the interpreter's shutdown, because a process-group thread that frees a tensor in it aborts.
        os._exit(ended)
    sys.exit(ended)
