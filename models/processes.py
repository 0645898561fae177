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
        group: signal the whole process group that the child leads. All processes that remain in the group are
            killed, even if the child itself has ended in time.
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
        The list to which each signal is appended when it arrives.
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
        pipe: the file descriptor of the standard input or of a copy of it. It must be a pipe whose other end
            only the parent holds, and the parent must not write to it. `sys.stdin` itself is not read: the
            thread would hold the lock of `sys.stdin`, which would break the interpreter's shutdown.
    """

    def wait() -> None:
        while os.read(pipe, 4096):
            pass
        action()

    threading.Thread(target=wait, daemon=True).start()
