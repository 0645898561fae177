"""The trainer process: `python -m models.training.trainer RUN_DIR` trains a model, and resumes after a kill.

It knows neither Prefect nor MLflow: config.json in; metrics.jsonl, train.log, notices.jsonl,
checkpoints, then model/ and summary.json out. Its exit status is 0 when done, 2 for an error that the
user can correct, 3 for any other error, and 143 or 130 when it was asked to stop: it has then written a
checkpoint, and the same command resumes from there.
"""

import os

if __name__ == "__main__":
    # Read when torch starts its threads: waiting ones then leave the core to others.
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

from models.errors import InputError, is_out_of_space
from models.metrics_log import NoticeHandler
from models.processes import stop_on_signals, when_parent_ends
from models.training import checkpoint, distributed, preflight
from models.training.attempts import fit_with_fallback
from models.training.launch import SUMMARY, Summary
from models.training.loop import Training
from models.training.run_folder import Run
from models.training.setup import num_cores

log = logging.getLogger(__name__)

LOCK_SECONDS = 30  # a trainer that is asked to stop takes some to write its checkpoint
LOST_SECONDS = 10  # for the launcher to end a process that has lost another
STOPPED = 128 + signal.SIGTERM


def train(folder: Path, stop: threading.Event) -> bool:
    """Train in the run folder; returns whether the training is complete, false if it was asked to stop.

    Raises:
        InputError: the config or the examples cannot be used, or another trainer is at work here.
    """
    run, group = Run.read(folder), distributed.init_process_group()
    try:
        with FileLock(folder / "lock", timeout=LOCK_SECONDS) if group.is_main else nullcontext():
            done, limit = fit_with_fallback(run, stop)
            # The launcher ends all processes once one has ended: the main process must have published by
            # then.
            with group.main_process_first():
                if limit is not None and group.is_main:
                    publish(done, limit)
            return limit is not None
    except Timeout:
        raise InputError(f"another training is running in {folder}; wait for it, or end it") from None


def publish(training: Training, limit: str) -> None:
    """Write model/ with the best weights, then summary.json; `limit` is what ended the training.

    Raises:
        OSError: the disk is full.
    """
    training.set_weights(training.best)
    training.run.publish(training.model)
    summary = Summary(
        parameters=training.model.num_parameters(),
        steps=training.state.step,
        epochs=training.state.epoch + training.state.batch_index / len(training.order),
        seconds=training.state.elapsed_s,
        train_tokens=training.state.tokens,
        best_validation_bpb=training.state.best_bpb,
        best_step=training.state.best_step,
        stopped_by=limit,
        precision=training.step.precision,
        fast_path="on" if training.step.path.packed else "off",
        skipped_steps=training.state.skipped,
        device=str(training.setup.device),
        processes=training.group.world_size,
        workers=training.step.workers,
        threads=torch.get_num_threads(),
        **{f"start_tokens_{name}": count for name, count in training.setup.start_token_counts.items()},
    )
    checkpoint.put_json(training.run.folder / SUMMARY, summary.model_dump())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.training.trainer", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this"
    )
    arguments = parser.parse_args()
    # The same line from each rank would be read once and printed as often as there are ranks.
    is_main = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if is_main else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    if is_main:
        logging.getLogger("models").addHandler(NoticeHandler(arguments.run_dir))
    stop = threading.Event()
    signals = stop_on_signals(stop, second_ends=True)
    if arguments.until_stdin_closes:
        # A copy: a launcher lends its ranks another standard input.
        when_parent_ends(stop.set, os.dup(0))
    try:
        status = run_trainer(arguments.run_dir, stop)
    except Exception as error:
        return report_error(error, stop)
    return 128 + signals[0] if signals and status == STOPPED else status


def run_trainer(folder: Path, stop: threading.Event) -> int:
    """Train in this process, or launch the process group that does; returns the exit status."""
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
    """Log the error in one last line, after a traceback if it is a bug; returns the exit status."""
    if isinstance(error, ConnectionError):
        # The rank that has ended says why; the launcher sees it, and then ends this one.
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
    elif isinstance(error, OSError):  # a folder that is gone: what it did is no help
        log.error("training: %s; earlier checkpoints are kept: run the same command again to continue", error)
    else:
        log.error("%s", "".join(traceback.format_exception(error)))
        log.error("training: %s: %s", type(error).__name__, " ".join(str(error).split()))
    return 3


if __name__ == "__main__":
    ended = main()
    if distributed.is_member():
        # Its group's threads may still let go of a tensor: while the interpreter ends they would abort.
        os._exit(ended)
    sys.exit(ended)
