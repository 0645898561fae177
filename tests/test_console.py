"""Tests of how the progress of a run is shown in a terminal."""

import fcntl
import logging
import os
import pty
import struct
import termios
import time
from io import StringIO

import pytest

import console
from console import Console, say, signs_of_life


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


@pytest.fixture
def silence_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "SILENT_SECONDS", 0.05)


def shown_during(handler: Console, monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    monkeypatch.setattr(console, "handlers", lambda: [handler])
    with signs_of_life():
        for text in texts:
            handler.emit(record(text, name="tasks.train"))
            waited_until_s = time.monotonic() + 60
            while not (handler.points_shown or handler.progress_shown):
                assert time.monotonic() < waited_until_s, "no sign of life"
                time.sleep(0.01)


@pytest.mark.usefixtures("silence_ends_soon")
def test_in_a_pipe_points_show_that_a_silent_program_works_and_each_line_stands_alone(monkeypatch) -> None:
    stream = StringIO()
    shown_during(Console(stream), monkeypatch, "starting", "plan")
    first, points, second, more_points = stream.getvalue().splitlines()
    assert (first, second) == ("  starting", "  plan")
    assert set(points.strip()) == set(more_points.strip()) == {"."}
    assert stream.getvalue().endswith(".\n"), "other output follows on a line of its own"


@pytest.mark.usefixtures("silence_ends_soon")
def test_a_program_that_prints_only_warnings_gives_no_signs(monkeypatch) -> None:
    stream = StringIO()
    handler = Console(stream)
    handler.setLevel(logging.WARNING)
    monkeypatch.setattr(console, "handlers", lambda: [handler])
    with signs_of_life():
        time.sleep(0.3)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("silence_ends_soon")
def test_in_a_terminal_the_sign_is_a_line_in_place_that_the_next_line_replaces(monkeypatch) -> None:
    reading, writing = pty.openpty()
    with os.fdopen(writing, "w") as stream:
        shown_during(Console(stream), monkeypatch, "starting", "plan")
        written = ""
        while written.count("plan") < 1 or not written.endswith("\r\x1b[K"):
            written += os.read(reading, 10_000).decode()
    os.close(reading)
    assert "still at work ." in written
    assert "\r\x1b[K  plan" in written


@pytest.mark.usefixtures("silence_ends_soon")
def test_a_result_that_is_printed_among_signs_begins_on_a_line_of_its_own(monkeypatch) -> None:
    both = StringIO()  # a terminal shows standard output and standard error in the same place
    handler = Console(both)
    monkeypatch.setattr(console, "handlers", lambda: [handler])
    monkeypatch.setattr("sys.stdout", both)
    with signs_of_life():
        for number in range(20):
            time.sleep(0.02)
            say(f"result {number}")
    results = [line for line in both.getvalue().splitlines() if "result" in line]
    assert results == [f"result {number}" for number in range(20)]
