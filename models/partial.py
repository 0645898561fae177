"""Partial outputs: each is built in a folder that is locked while the process that builds it runs.

    store/STAGE/.tmp-FINGERPRINT/lock, out/

The lock is a kernel lock, so it is released as soon as that process ends, even if the process is killed or
runs in a container or on another machine. A folder whose lock is free is therefore not in use.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models.locks import lock

log = logging.getLogger(__name__)

PREFIX = ".tmp-"
LOCK = "lock"
OUT = "out"


@contextmanager
def building(folder: Path, fingerprint: str) -> Iterator[Path]:
    """Yield an empty folder in which to build this output, and remove the folder afterwards.

    If another process is building the same output, the call waits for that process to end. The output may
    then already exist.
    """
    partial = folder / f"{PREFIX}{fingerprint}"
    held = _acquire(partial)
    try:
        shutil.rmtree(partial / OUT, ignore_errors=True)  # a process that died may have left this folder
        (partial / OUT).mkdir()
        yield partial / OUT
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        held.release()


def sweep(store: Path) -> None:
    """Remove the partial outputs of processes that have died."""
    for partial in store.glob(f"*/{PREFIX}*"):
        dead = lock(partial / LOCK, timeout_s=0)
        try:
            dead.acquire()
        except (Timeout, FileNotFoundError):  # the process is still building, or has just ended
            continue
        except OSError as error:
            log.warning("the partial output %s could not be removed: %s", partial, error.strerror)
            continue
        shutil.rmtree(partial, ignore_errors=True)
        dead.release()


def _acquire(partial: Path) -> FileLock:
    waits = False
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        held = lock(partial / LOCK, timeout_s=-1 if waits else 0)
        try:
            held.acquire()
        except Timeout:
            log.info("%s: waiting for another process that is building this output", partial.parent.name)
            waits = True
        except FileNotFoundError:  # the other process has ended and removed the folder: try again
            continue
        else:
            return held
