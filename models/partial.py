"""Partial outputs: a folder in which an output is built, locked for as long as its builder lives.

    store/STAGE/.tmp-FINGERPRINT/lock, out/

It is a lock of the kernel: free as soon as the builder has ended, however it ended and on whichever machine
or in whichever container it ran. A folder whose lock is free is in use by nobody.
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
    """An empty folder to build an output in, for one builder at a time; it is removed afterwards.

    This waits for another builder of the same output, so that output may exist now.
    """
    partial = folder / f"{PREFIX}{fingerprint}"
    held = _acquire(partial)
    try:
        shutil.rmtree(partial / OUT, ignore_errors=True)  # of a builder that has died
        (partial / OUT).mkdir()
        yield partial / OUT
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        held.release()


def sweep(store: Path) -> None:
    """Remove the partial outputs of dead builders."""
    for partial in store.glob(f"*/{PREFIX}*"):
        dead = lock(partial / LOCK, timeout_s=0)
        try:
            dead.acquire()
        except (Timeout, FileNotFoundError):  # somebody builds there, or has just ended
            continue
        except OSError as error:
            log.warning("%s is left as it is: %s", partial, error.strerror)
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
            log.info("%s: waiting for another process, which is building this output", partial.parent.name)
            waits = True
        except FileNotFoundError:  # that process has ended and removed the folder: once more
            continue
        else:
            return held
