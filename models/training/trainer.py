"""Trainer: `python -m models.training.trainer RUN_DIR` makes a model; killed anywhere, it goes on.

It knows neither Prefect nor MLflow: config.json in; metrics.jsonl, train.log, notices.jsonl,
checkpoints, then model/ and summary.json out. It ends with 0 done, 2 the user can mend it, 3 it failed,
143 or 130 told to stop: a checkpoint is written and the same command goes on from there.
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
from typing import Any

import torch
from filelock import FileLock, Timeout

from models.errors import InputError, is_out_of_space
from models.metrics_log import NoticeHandler
from models.training import distributed, loop, preflight
from models.training.run_folder import Run

log = logging.getLogger(__name__)

LOCK_SECONDS = 30  # a trainer that was told to end needs some to write its checkpoint
LOST_SECONDS = 10  # for the launcher to end a rank that has lost another
STOPPED = 128 + signal.SIGTERM


def train(folder: Path, stop: threading.Event) -> bool:
    """Train in the run folder; whether it is done, or was told to stop before.

    Raises:
        InputError: the config or the examples cannot be used, or another trainer is at work here.
    """
    run, us = Run.read(folder), distributed.init_process_group()
    try:
        with FileLock(folder / "lock", timeout=LOCK_SECONDS) if us.is_main else nullcontext():
            done, limit = loop.fit(run, stop)
            # A rank that ended would have the others ended, too: rank 0 has saved by then.
            with us.main_process_first():
                if limit is not None and us.is_main:
                    done.publish(limit)
            return limit is not None
    except Timeout:
        raise InputError(f"another training is at work in {folder}; wait for it, or end it") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.training.trainer", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this"
    )
    asked = parser.parse_args()
    # The same line from each rank would be read once and printed as often as there are ranks.
    leads = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if leads else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    if leads:
        logging.getLogger("models").addHandler(NoticeHandler(asked.run_dir))
    stop = threading.Event()
    signals = stop_on_signals(stop)
    if asked.until_stdin_closes:
        # A copy: a launcher lends its ranks another standard input.
        threading.Thread(target=stop_with_parent, args=(stop, os.dup(0)), daemon=True).start()
    try:
        status = work(asked.run_dir, stop)
    except Exception as error:
        return tell(error, stop)
    return 128 + signals[0] if signals and status == STOPPED else status


def work(folder: Path, stop: threading.Event) -> int:
    """Train as this process, or start the ranks that do; the exit status."""
    if not distributed.is_member():
        processes = distributed.num_processes(Run.read(folder).train.processes)
        if processes > 1:
            return distributed.launch(
                processes, loop.cores(), stop, "-m", "models.training.trainer", str(folder)
            )
    else:
        threading.Thread(target=distributed.stop_with_launcher, args=(stop,), daemon=True).start()
    torch.set_num_threads(1 if loop.cores() == 2 else max(1, loop.cores() // 2))
    return 0 if train(folder, stop) else STOPPED


def tell(error: Exception, stop: threading.Event) -> int:
    """One last line of what went wrong, after a traceback where it is our own fault; the exit status."""
    if isinstance(error, ConnectionError):
        # The rank that has ended says why; the launcher sees it, and then ends this one.
        stop.clear()
        if stop.wait(LOST_SECONDS):
            return 3
    if isinstance(error, InputError):
        log.error("training: %s", error)
        return 2
    if isinstance(error, preflight.Defect):
        log.error("training: %s; training would not help: mend the network, or give another start", error)
    elif is_out_of_space(error):
        reason = str(error) if "disk is full" in str(error) else f"the disk is full ({error})"
        more = "earlier checkpoints are kept: free some space, and the same command goes on"
        log.error("training: %s; %s", reason, more)
        return 2
    elif isinstance(error, OSError):  # a folder that is gone: what it did is no help
        log.error("training: %s; earlier checkpoints are kept: the same command goes on", error)
    else:
        log.error("%s", "".join(traceback.format_exception(error)))
        log.error("training: %s: %s", type(error).__name__, " ".join(str(error).split()))
    return 3


def stop_on_signals(stop: threading.Event) -> list[int]:
    """Ask for a stop at the first SIGTERM or SIGINT, end at the second; the list is who asked."""
    asked: list[int] = []

    def ask(number: int, _: Any) -> None:
        asked.append(number)
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return asked


def stop_with_parent(stop: threading.Event, handle: int) -> None:
    # Not sys.stdin: its lock, held by this thread, would break the interpreter's shutdown.
    while os.read(handle, 4096):
        pass
    stop.set()  # the last holder of the pipe's other end is gone


if __name__ == "__main__":
    ended = main()
    if distributed.is_member():
        # Its group's threads may still let go of a tensor: while the interpreter ends they would abort.
        os._exit(ended)
    sys.exit(ended)
