"""Console: print the log lines and the progress of a run on standard error."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TextIO

from environment import LOGGED

QUIET_SECONDS = 15  # between two progress lines if standard error is not a terminal
SILENT_SECONDS = 1.5  # after this time without output, a sign shows that the program is still at work
DEFAULT_COLUMNS = 80


class Console(logging.Handler):
    """Prints the log lines of the stages. In a terminal, progress is one line that is updated in place.

    While nothing is logged, `show_sign` shows that the program is still at work: in a terminal with points
    that change at the end of the last line, elsewhere with a growing row of points.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self.stream = stream
        self.is_terminal = stream.isatty()
        self.progress_shown = False
        self.points_shown = False
        self.signs = 0
        self.last_progress_s = 0.0
        """When the last progress line was printed, in seconds of `time.monotonic`."""
        self.last_output_s = time.monotonic()
        self.is_in_use = False
        """Whether a line has been printed."""
        self.progress = ""
        """The last progress text, if no other line followed it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except BrokenPipeError:
            pass  # nothing reads the output any more, but the run continues
        except Exception:
            self.handleError(record)

    def show_sign(self) -> None:
        """Show a sign if nothing was printed for SILENT_SECONDS, unless only warnings are printed.

        In a pipe, the first line precedes all signs, because after bad input the error is the only line.
        """
        now_s = time.monotonic()
        is_too_early = now_s - self.last_output_s < SILENT_SECONDS or not (self.is_terminal or self.is_in_use)
        if self.level > logging.INFO or is_too_early:
            return
        with suppress(OSError), self.lock or nullcontext():
            self.last_output_s, self.signs = now_s, self.signs + 1
            if self.is_terminal:
                self._rewrite_line(f"{self.progress or 'still at work'} {'.' * (1 + self.signs % 3)}")
            else:
                self.stream.write("." if self.points_shown else "  .")
                self.stream.flush()
                self.points_shown = True

    def end_signs(self) -> None:
        """Move to a new line after the last sign, so that other output can follow."""
        with suppress(OSError), self.lock or nullcontext():
            self.stream.write(self._start_of_line())
            self.stream.flush()

    def _emit(self, record: logging.LogRecord) -> None:
        if record.name == "progress":
            self._progress(record.getMessage())
            return
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._line(f"  {prefix}{record.getMessage()}")

    def _progress(self, text: str) -> None:
        if self.is_terminal:
            self.progress, self.last_output_s = text, time.monotonic()
            self._rewrite_line(text)
        elif time.monotonic() - self.last_progress_s > QUIET_SECONDS:
            self.last_progress_s = time.monotonic()
            self._line(f"  {text}")

    def _rewrite_line(self, text: str) -> None:
        # The line is cut to the terminal's width: if it wrapped, only its last row could be overwritten.
        self.stream.write(f"\r\x1b[K{f'  {text}'[: columns_of(self.stream) - 1]}")
        self.stream.flush()
        self.progress_shown = True

    def _line(self, text: str) -> None:
        self.progress, self.last_output_s, self.is_in_use = "", time.monotonic(), True
        self.stream.write(f"{self._start_of_line()}{text}\n")
        self.stream.flush()

    def _start_of_line(self) -> str:
        """What must be written before a new line: it removes the line in place, or ends the row of points."""
        start = "\r\x1b[K" if self.progress_shown else "\n" if self.points_shown else ""
        self.progress_shown = self.points_shown = False
        return start


@contextmanager
def signs_of_life() -> Iterator[None]:
    """Inside the `with` block, a sign appears whenever nothing was printed for SILENT_SECONDS."""
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(SILENT_SECONDS / 8):
            for handler in handlers():
                handler.show_sign()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for handler in handlers():
            handler.end_signs()


def say(text: str) -> None:
    """Print a text on standard output. While signs are shown, it still begins on a line of its own."""
    with ExitStack() as stack:
        for handler in handlers():
            stack.enter_context(handler.lock or nullcontext())
            handler.end_signs()
            handler.last_output_s = time.monotonic()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


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
