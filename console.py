"""Console: how a run looks in a terminal, on standard error."""

import logging
import os
import sys
import time
from typing import TextIO

from environment import LOGGED

QUIET_SECONDS = 15  # between two progress lines where they cannot replace each other


class Console(logging.Handler):
    """Prints what the stages say; in a terminal, progress stays on one line that is written anew."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.progress_shown = False
        self.told_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except BrokenPipeError:
            pass  # nobody reads any more; the run goes on
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
            # A line that wraps could not be replaced: only its last row is written over.
            self.stream.write(f"\r\x1b[K{f'  {text}'[: self._columns() - 1]}")
            self.stream.flush()
            self.progress_shown = True
        elif time.monotonic() - self.told_s > QUIET_SECONDS:
            self.told_s = time.monotonic()
            self._line(f"  {text}")

    def _columns(self) -> int:
        """Of the terminal, now; one that does not know has 80."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except OSError:
            return 80

    def _line(self, text: str) -> None:
        start = "\r\x1b[K" if self.progress_shown else ""
        self.progress_shown = False
        self.stream.write(f"{start}{text}\n")
        self.stream.flush()


def show_progress() -> None:
    """Let the stages speak on standard error; the libraries stay silent unless something is wrong."""
    # Read when Prefect sets its logging up: its own lines go to the run's logs, not to this terminal.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    logging.raiseExceptions = False  # a log line that Prefect's server does not take is none for the terminal
    console = Console(sys.stderr)
    for name in (*LOGGED, "deployments", "progress"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(console)
        logger.propagate = False
