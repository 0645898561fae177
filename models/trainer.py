"""Trainer: `python -m models.trainer RUN_DIR` makes a model of examples; killed anywhere, it goes on.

It knows neither Prefect nor MLflow: config.json in; metrics.jsonl, train.log, checkpoints, then
model/ and summary.json out. It ends with 0 done, 2 the user can mend it, 3 it failed,
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

from models import preflight, ranks, training
from models.errors import InputError
from models.run import Run

log = logging.getLogger(__name__)

LOCK_SECONDS = 30  # a trainer that was told to end needs some to write its checkpoint


def train(folder: Path, stop: threading.Event) -> bool:
    """Train in the run folder; whether it is done, or was told to stop before.

    Raises:
        InputError: the config or the examples cannot be used, or another trainer is at work here.
    """
    run, us = Run.read(folder), ranks.join()
    try:
        with FileLock(folder / "lock", timeout=LOCK_SECONDS) if us.lead else nullcontext():
            done, limit = training.fit(run, stop)
            # A rank that ended would have the others ended, too: rank 0 has saved by then.
            with us.lead_first():
                if limit is not None and us.lead:
                    done.publish(limit)
            return limit is not None
    except Timeout:
        raise InputError(f"another training is at work in {folder}; wait for it, or end it") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.trainer", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this"
    )
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        processes = 1 if ranks.is_member() else ranks.wanted(Run.read(asked.run_dir).train.processes)
    except InputError as error:
        log.error("training: %s", error)
        return 2
    if processes > 1:
        return ranks.launch(processes, training.cores(), "-m", "models.trainer", *sys.argv[1:])
    return work(asked.run_dir, until_stdin_closes=asked.until_stdin_closes)


def work(folder: Path, *, until_stdin_closes: bool) -> int:
    """Train as this process; the exit status."""
    torch.set_num_threads(1 if training.cores() == 2 else max(1, training.cores() // 2))
    stop = threading.Event()
    signals = stop_on_signals(stop)
    if until_stdin_closes:
        threading.Thread(target=stop_with_parent, args=(stop,), daemon=True).start()
    if ranks.is_member():
        threading.Thread(target=ranks.stop_with_launcher, args=(stop,), daemon=True).start()
    try:
        return 0 if train(folder, stop) else 128 + (signals or [signal.SIGTERM])[0]
    except InputError as error:
        log.error("training: %s", error)
        return 2
    except preflight.Defect as error:
        log.error("training: %s", error)
        return 3
    except OSError as error:  # a full disk, a folder that is gone: what it did is no help
        log.error("training: %s; earlier checkpoints are kept, the same command goes on", error)
        return 3
    except Exception as error:
        log.error("%s", traceback.format_exc())
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


def stop_with_parent(stop: threading.Event) -> None:
    # Not sys.stdin: its lock, held by this thread, would break the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    stop.set()  # the last holder of the pipe's other end is gone


if __name__ == "__main__":
    sys.exit(main())
