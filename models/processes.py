"""Processes: ending a child process, ending together with the parent process, and ending on a signal."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any


def end_process(process: subprocess.Popen[Any], grace_s: float, *, group: bool = False) -> None:
    """Ask a child process to end, wait up to `grace_s` seconds, and kill it if it is still running.

    Args:
        group: signal the whole process group that the child leads. Any processes left in the group are then
            killed, even if the child itself ended in time.
    """

    def send(number: int) -> None:
        with suppress(ProcessLookupError):
            if group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    send(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    send(signal.SIGKILL)
    process.wait()


def stop_on_signals(
    stop: threading.Event,
    numbers: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
    *,
    second_ends: bool = False,
) -> list[int]:
    """Make these signals set `stop` instead of ending the process at once.

    Args:
        second_ends: let a second signal end the process at once, in case stopping takes too long.

    Returns:
        A list to which the number of each signal is appended when the signal arrives.
    """
    received: list[int] = []

    def request_stop(number: int, _: Any) -> None:
        received.append(number)
        stop.set()
        if second_ends:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        with suppress(ValueError):  # only the main thread can set signal handlers
            signal.signal(number, request_stop)
    return received


def when_parent_ends(action: Callable[[], None], pipe: int = 0) -> None:
    """Call `action` in a thread as soon as the parent process has ended, even if it was killed.

    Args:
        pipe: the file descriptor of standard input, or a duplicate of it. It must refer to a pipe whose other
            end is open only in the parent, and to which the parent writes nothing. The thread reads from the
            descriptor, because reading from `sys.stdin` would hold a lock that breaks the interpreter's
            shutdown.
    """

    def wait() -> None:
        while os.read(pipe, 4096):
            pass
        action()

    threading.Thread(target=wait, daemon=True).start()
