"""Console: print the log lines and the progress of a run on standard error."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from environment import LOGGED

QUIET_SECONDS = 15  # between two progress lines if standard error is not a terminal
DEFAULT_COLUMNS = 80


class Console(logging.Handler):
    """Prints the log lines of the stages. In a terminal, progress is one line that is updated in place."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.progress_shown = False
        self.last_progress_s = 0.0
        """When the last progress line was printed, in seconds of `time.monotonic`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except BrokenPipeError:
            pass  # nothing reads the output any more, but the run continues
        except Exception:
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        if record.name == "progress":
            self._progress(record.getMessage())
            return
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._line(f"  {prefix}{record.getMessage()}")

    def _progress(self, text: str) -> None:
        if self.is_terminal:
            # The line is cut to the terminal's width: if it wrapped, only its last row could be overwritten.
            self.stream.write(f"\r\x1b[K{f'  {text}'[: columns_of(self.stream) - 1]}")
            self.stream.flush()
            self.progress_shown = True
        elif time.monotonic() - self.last_progress_s > QUIET_SECONDS:
            self.last_progress_s = time.monotonic()
            self._line(f"  {text}")

    def _line(self, text: str) -> None:
        start = "\r\x1b[K" if self.progress_shown else ""
        self.progress_shown = False
        self.stream.write(f"{start}{text}\n")
        self.stream.flush()


def columns_of(stream: TextIO) -> int:
    """The current width of a terminal in characters; DEFAULT_COLUMNS if the width is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


def supports_styles(stream: TextIO) -> bool:
    """Whether a stream is a terminal in which the user wants colours and lines that are updated in place."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_progress() -> None:
    """Print Repartee's log lines on standard error. Prefect's own lines go only to the logs of the run."""
    # Prefect reads these variables when it sets up its logging.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    logging.raiseExceptions = False  # no traceback if Prefect's server refuses a log line
    console = Console(sys.stderr)
    for logger in _loggers():
        logger.setLevel(logging.INFO)
        logger.addHandler(console)
        logger.propagate = False


def handlers() -> list[Console]:
    """The handlers that `show_progress` has added."""
    return list(
        {handler for logger in _loggers() for handler in logger.handlers if isinstance(handler, Console)}
    )


@contextmanager
def replace_handler(other: logging.Handler) -> Iterator[None]:
    """Inside the `with` block, log records go to `other` instead of the handler added by `show_progress`."""
    replaced = handlers()
    for logger in _loggers():
        logger.addHandler(other)
        for handler in replaced:
            logger.removeHandler(handler)
    try:
        yield
    finally:
        for logger in _loggers():
            logger.removeHandler(other)
            for handler in replaced:
                logger.addHandler(handler)


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in (*LOGGED, "cli", "deployments", "progress")]
