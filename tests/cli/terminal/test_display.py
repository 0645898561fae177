"""The live display of a run: what the screen shows in terminals of different widths."""

import io
import logging

import pytest

from cli.terminal.display import BLOCKS, Display, progress, sparkline
from console import show_progress
from environment import LOGGED
from tasks.store.stage_event import KEY, StageEvent, event

STEP = {
    "progress": 0.42,
    "step": 603,
    "loss": 2.312,
    "accuracy": 0.45,
    "tokens_per_second": 4200.0,
    "seconds_left": 62.0,
    "validation_bpb": 3.21,
}


class Terminal(io.StringIO):
    """A terminal that records the text that is written to it."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self.name_of_encoding = encoding

    @property
    def encoding(self):
        return self.name_of_encoding

    def isatty(self):
        return True


def record(text, name="tasks.store.stage", level=logging.INFO, **extra):
    log_record = logging.LogRecord(name, level, "", 0, text, None, None)
    vars(log_record).update(extra)
    return log_record


@pytest.fixture
def display(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    opened = []

    def open_display(columns, **options):
        monkeypatch.setenv("COLUMNS", str(columns))
        opened.append(Display(Terminal(**options)))
        return opened[-1]

    yield open_display
    for each in opened:
        each.stop()


def screen(display):
    """The text of the display's present state, without colour codes."""
    with display.console.capture() as capture:
        display.console.print(display.render())
    return "".join(
        part.partition("m")[2] if i else part for i, part in enumerate(capture.get().split("\x1b["))
    )


def a_run(display):
    waiting = [StageEvent(name, "waiting") for name in ("parse", "train", "gate")]
    display.emit(
        record("plan: run parse, train, gate", **{KEY: [StageEvent("download", "reused"), *waiting]})
    )
    display.emit(record("download: reused (3 files)", **event("download", "reused", output="3 files")))
    display.emit(record("parse: running", **event("parse", "running")))
    display.emit(record("parse: done", **event("parse", "done", output="3,000 turns", seconds=0.5)))
    display.emit(record("train: running", **event("train", "running")))
    display.emit(record("train: 42 %", name="progress", training=STEP))


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_each_stage_has_its_state_its_time_and_its_output_and_no_line_is_cut(display, columns):
    shown = display(columns)
    a_run(shown)
    lines = screen(shown).splitlines()
    assert max(map(len, lines)) <= columns
    rows = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert rows["download"] == ["=", "reused", "3", "files"]
    assert rows["parse"] == ["✓", "done", "0.5", "s", "3,000", "turns"]
    assert rows["gate"] == ["·", "waiting"]
    assert "running" in rows["train"] or "running" in lines[3]
    assert "42 %, 1 min 2 s left" in screen(shown)
    assert "loss 2.312  accuracy 45.0%  3.210 bits per byte" in screen(shown)


def test_an_ascii_terminal_gets_words_without_signs(display):
    shown = display(80, encoding="ascii")
    a_run(shown)
    assert screen(shown).isascii()
    assert "done" in screen(shown)


def test_what_happens_now_is_shown_with_the_seconds_that_it_has_taken(display):
    shown = display(80)
    shown.emit(record("starting a Prefect server for this run", name="deployments.local.recorded"))
    shown.status_since_s -= 7.2
    assert "starting a Prefect server for this run (7 s)" in screen(shown)
    shown.emit(record("parse: running", **event("parse", "running")))
    assert "starting" not in screen(shown)


def test_warnings_and_epochs_stay_on_the_screen_above_the_table(display):
    shown = display(80)
    a_run(shown)
    shown.emit(record("train: epoch 1  loss 2.3", name="tasks.train"))
    shown.emit(record("a batch does not fit", name="models.training.step", level=logging.WARNING))
    shown.stop()
    written = shown.console.file.getvalue()
    assert "train: epoch 1  loss 2.3" in written
    assert "warning: a batch does not fit" in written


def test_an_output_that_the_run_has_just_built_is_not_shown_as_reused_when_the_gate_reads_it(display):
    shown = display(80)
    shown.emit(record("", **event("rescore", "done", output="9 replies", seconds=1.0)))
    shown.emit(record("", **event("rescore", "reused", output="9 replies")))
    assert "done" in screen(shown)


@pytest.fixture
def standard_error(monkeypatch):
    """Make a stream standard error and print log lines on it; the loggers are restored afterwards."""
    loggers = [logging.getLogger(name) for name in (*LOGGED, "cli", "deployments", "progress")]
    before = [(logger, logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
    monkeypatch.setattr(logging, "raiseExceptions", True)
    for variable in ("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "PREFECT_LOGGING_INTERNAL_LEVEL"):
        monkeypatch.setenv(variable, "CRITICAL")  # what `show_progress` sets

    def install(stream):
        monkeypatch.setattr("sys.stderr", stream)
        show_progress()
        return stream

    yield install
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


def log_two_lines():
    logging.getLogger("tasks.store.stage").info("parse: 3,000 turns in 0.5 s")
    logging.getLogger("tasks.store.stage").warning("parse: 3 lines were rejected")


INFO, WARNING = "  parse: 3,000 turns in 0.5 s\n", "  warning: parse: 3 lines were rejected\n"


def test_plain_lines_are_printed_where_standard_error_is_no_terminal(standard_error):
    stream = standard_error(io.StringIO())
    with progress():
        log_two_lines()
    assert stream.getvalue() == INFO + WARNING


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_plain_lines_are_printed_in_a_terminal_that_asks_for_them(monkeypatch, standard_error, variable):
    monkeypatch.setenv(variable, "dumb")
    stream = standard_error(Terminal())
    with progress():
        log_two_lines()
    assert stream.getvalue() == INFO + WARNING


def test_quiet_prints_warnings_alone(standard_error):
    stream = standard_error(io.StringIO())
    with progress(quiet=True):
        log_two_lines()
    assert stream.getvalue() == WARNING


def test_a_sparkline_has_one_block_for_each_part_of_the_values():
    assert sparkline([], 24) == ""
    assert sparkline([1.0], 24) == BLOCKS[0]
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == BLOCKS[::-1]
    assert sparkline([float(i) for i in range(1000)], 8) == BLOCKS
    assert sparkline([2.0] * 50, 10) == BLOCKS[0] * 10
