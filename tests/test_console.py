"""Tests of how the progress of a run is shown in a terminal."""

import fcntl
import logging
import os
import pty
import struct
import termios

import pytest

from console import Console


def record(text: str, name: str = "progress") -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, "", 0, text, None, None)


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_a_progress_line_never_wraps_in_the_terminal(columns: int) -> None:
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(writing, "w") as stream:
        console = Console(stream)
        for step in range(3):
            console.emit(record(f"train: step {step} " + "x" * 100))
        console.emit(record("train: done", name="tasks.train"))
        written = ""
        while "done" not in written:
            written += os.read(reading, 10_000).decode()
    os.close(reading)
    parts = written.split("\r\x1b[K")
    assert len(parts) == 5
    assert all(len(part) < columns for part in parts[:4])
    assert parts[1].startswith("  train: step 0")
    assert parts[4].rstrip() == "  train: done"
