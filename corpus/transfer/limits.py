"""Limits: how long a download may take and how large it may be, and a meter for its speed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from corpus.transfer.guard import TransientError

Progress = Callable[[int, int | None], None]
"""A callback that is called with the number of bytes received and the total number (None if unknown)."""


@dataclass(frozen=True)
class Limits:
    """The limits for a download. If a limit is exceeded, the error message names that limit."""

    total_s: float = 1800
    """The time limit for all attempts at all mirrors together."""
    max_bytes: int = 4 * 2**30
    connect_s: float = 10
    slow_after_s: float = 30
    """An attempt ends if, for this long, it receives no data or less than `min_bytes_per_s` on average."""
    min_bytes_per_s: float = 1000
    tries: int = 5
    """The maximum number of attempts at one address; at most 2 if the address cannot be reached."""
    first_wait_s: float = 0.5
    """The wait before the second attempt. Each later wait is twice as long as the one before, up to
    `longest_wait_s`. A random amount is added to each wait."""
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
            TransientError: the download has been too slow for `slow_after_s` seconds.
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


@dataclass(frozen=True)
class UnpackLimits:
    """The limits for an archive. If a limit is exceeded, the error message names that limit."""

    member_bytes: int = 4 * 2**30
    total_bytes: int = 4 * 2**30
    ratio: int = 200
    """The largest ratio of unpacked to packed bytes, for files that unpack to more than `ratio_from_bytes`
    bytes. The ratio of English text is 3 or 4."""
    ratio_from_bytes: int = 10 * 2**20
    entries: int = 10_000
    directory_bytes: int = 2 * 2**20
    """The largest size of the archive's table of contents, which is read into memory as a whole."""
