"""Limits: how long a download may take and how large it may be, and a meter for its speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from corpus.transfer.guard import TransientError

Progress = Callable[[int, int | None], None]
"""A callback that gets the number of bytes received and the total number, or None if that is unknown."""


@dataclass(frozen=True)
class Limits:
    """The limits for a download. Exceeding a limit is an error that names it."""

    total_s: float = 1800
    """Time for all attempts at all mirrors."""
    max_bytes: int = 4 * 2**30
    connect_s: float = 10
    slow_after_s: float = 30
    """An attempt ends after this time without data, or after this time below `min_bytes_per_s`."""
    min_bytes_per_s: float = 1000
    tries: int = 5
    """Attempts at an address that answers; an address that cannot be reached gets at most 2."""
    first_wait_s: float = 0.5
    """Wait before the second attempt, plus a random part; the wait doubles, up to `longest_wait_s`."""
    longest_wait_s: float = 30
    max_redirects: int = 5


class Meter:
    """Reports the progress once a second, and ends an attempt that is too slow."""

    def __init__(self, done_bytes: int, total_bytes: int | None, limits: Limits, progress: Progress) -> None:
        self._total_bytes, self._limits, self._progress = total_bytes, limits, progress
        self._last_report_s = self._window_start_s = time.monotonic()
        self._window_start_bytes = done_bytes

    def update(self, done_bytes: int) -> None:
        """Record that `done_bytes` bytes have arrived in total.

        Raises:
            TransientError: the download has been too slow since the last check.
        """
        now_s, limits = time.monotonic(), self._limits
        if now_s - self._window_start_s >= limits.slow_after_s:
            bytes_per_s = (done_bytes - self._window_start_bytes) / (now_s - self._window_start_s)
            if bytes_per_s < limits.min_bytes_per_s:
                slow = f"{limits.min_bytes_per_s:g} bytes/s for {limits.slow_after_s:g} s"
                raise TransientError(f"slower than {slow}")
            self._window_start_s, self._window_start_bytes = now_s, done_bytes
        if now_s - self._last_report_s >= 1:
            self._progress(done_bytes, self._total_bytes)
            self._last_report_s = now_s
