"""The time limit of a run, `max_hours`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS_PER_HOUR = 3600


class OutOfTime(KeyboardInterrupt):
    """The run has reached its time limit. As after Ctrl-C, the trainer writes a checkpoint before it ends."""


@contextmanager
def time_limit(hours: float | None) -> Iterator[None]:
    """Interrupt the `with` block after `hours` (None: never). The caller must be in the main thread.

    Raises:
        OutOfTime: the block has not ended in time.
    """
    if hours is None:
        yield
        return
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    # A signal also interrupts a blocking system call. SIGUSR2 is used because Prefect itself uses SIGALRM.
    previous = signal.signal(signal.SIGUSR2, _interrupt)
    timer = threading.Timer(hours * SECONDS_PER_HOUR, signal.pthread_kill, args=(main_thread, signal.SIGUSR2))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR2, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise OutOfTime
