"""The live display of a run in a terminal: the stages, the progress of training, and the current activity.

If standard error is a terminal and NO_COLOR is not set, this display replaces the plain log lines of
console.py while a verb runs stages. The display and console.py read the same log records; the display also
reads the stage events that are attached to these records.
"""

import itertools
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from console import columns_of, handlers, replace_handler, signs_of_life, supports_styles
from models.quantities import duration_text
from tasks.store.stage_event import KEY, StageEvent

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

log = logging.getLogger("cli.terminal.display")

REFRESHES_PER_SECOND = 8
MIN_COLUMNS = 40  # in a narrower terminal, plain lines are printed, because the table would not fit
BLOCKS = "▁▂▃▄▅▆▇█"
BAR_COLUMNS = 24
SIGNS = {"waiting": ("·", "dim"), "running": ("", "yellow"), "done": ("✓", "green"), "reused": ("=", "cyan")}
"""The sign and the colour for each state of a stage. The display also shows the state as a word."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[None]:
    """Show the progress of the stages on standard error while a verb runs them.

    Args:
        quiet: whether to print only warnings.
    """
    if quiet:
        for handler in handlers():
            handler.setLevel(logging.WARNING)
    if quiet or not supports_styles(sys.stderr) or columns_of(sys.stderr) < MIN_COLUMNS:
        with signs_of_life():
            yield  # nothing has been logged yet, so after bad input the error message is the only line
        return
    display = Display(sys.stderr)
    with replace_handler(display):
        log.info("checking the setup")
        try:
            yield
        finally:
            display.stop()


class Display(logging.Handler):
    """Shows the log records of a run as a table of the run's stages, which is updated in place.

    Log lines without a stage event, such as warnings and epoch metrics, are printed above the table.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.spinner import Spinner

        super().__init__(logging.INFO)
        self.console = RichConsole(file=stream, highlight=False)
        self.has_unicode = (stream.encoding or "").lower().startswith("utf")
        self.spinner = Spinner("dots" if self.has_unicode else "line", style="yellow")
        self.stages: dict[str, StageEvent] = {}
        self.started_s: dict[str, float] = {}
        self.training: dict[str, Any] | None = None
        self.losses: list[float] = []
        self.status = ""
        self.status_since_s = time.monotonic()
        self.live = Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._show(record)
        except Exception:
            self.handleError(record)

    def stop(self) -> None:
        """Stop the display; the last state of the stages stays on the screen."""
        self.status, self.training = "", None
        self.live.stop()

    def _show(self, record: logging.LogRecord) -> None:
        events: list[StageEvent] = getattr(record, KEY, [])
        message = record.getMessage()
        for event in events:
            self._update(event)
        if figures := getattr(record, "training", None):
            if self.training is None or self.training["step"] != figures["step"]:
                self.losses.append(figures["loss"])
            self.training = figures
        elif record.levelno >= logging.WARNING:
            self._print(f"warning: {message}", "yellow")
        elif events:
            self._set_status("")
        elif record.name.split(".")[0] in ("cli", "deployments", "progress"):
            self._set_status(message)
        else:
            self._print(message, "dim")

    def _update(self, event: StageEvent) -> None:
        if event.state == "running":
            self.started_s.setdefault(event.stage, time.monotonic())
        if event.state in ("done", "reused") and event.stage == "train":
            self.training = None
        known = self.stages.get(event.stage)
        if event.state == "reused" and known is not None and known.state == "done":
            return  # this run built the output, and now the gate reads it: the stage stays "done"
        self.stages[event.stage] = event

    def _set_status(self, text: str) -> None:
        self.status, self.status_since_s = text, time.monotonic()

    def _print(self, text: str, style: str) -> None:
        from rich.padding import Padding
        from rich.text import Text

        self.live.console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))

    def render(self) -> "RenderableType":
        """The current state of the run, as it is shown on the screen."""
        from rich.console import Group

        parts: list[RenderableType] = []
        if self.stages:
            parts.append(self._table())
        if self.training:
            parts += self._training_lines(self.training)
        if self.status:
            self.spinner.update(text=self._status_text())
            parts.append(self.spinner)
        return Group(*parts)

    def _status_text(self) -> "Text":
        from rich.text import Text

        waited_s = time.monotonic() - self.status_since_s
        return Text(self.status + (f" ({waited_s:.0f} s)" if waited_s >= 2 else ""), overflow="ellipsis")

    def _table(self) -> "RenderableType":
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("  stage", min_width=13, no_wrap=True)
        table.add_column("state", min_width=9, no_wrap=True)
        table.add_column("time", min_width=10, justify="right", no_wrap=True)
        table.add_column("output", no_wrap=True, overflow="ellipsis")
        for event in self.stages.values():
            table.add_row(f"  {event.stage}", self._state(event), self._seconds(event), event.output)
        return table

    def _state(self, event: StageEvent) -> "RenderableType":
        from rich.text import Text

        sign, style = SIGNS[event.state]
        if event.state == "running":
            self.spinner.update(text=Text("running", style=style))
            return self.spinner.render(time.monotonic())
        return Text(f"{sign} {event.state}" if self.has_unicode else event.state, style=style)

    def _seconds(self, event: StageEvent) -> str:
        started_s = self.started_s.get(event.stage)
        if event.seconds is not None:
            return duration_text(event.seconds)
        if event.state == "running" and started_s is not None:
            return duration_text(time.monotonic() - started_s)
        return ""

    def _training_lines(self, figures: dict[str, Any]) -> "list[RenderableType]":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(total=1.0, completed=min(1.0, figures["progress"]), width=BAR_COLUMNS)
        left = f"{100 * figures['progress']:.0f} %, {duration_text(figures['seconds_left'])} left"
        grid.add_row("  train", bar, left)
        speed = f"step {figures['step']:,}  {figures['tokens_per_second']:,.0f} tokens/s"
        grid.add_row("", Text(self._sparkline(), style="cyan"), speed)
        bpb = figures["validation_bpb"]
        scores = f"  loss {figures['loss']:.3f}  accuracy {figures['accuracy']:.1%}" + (
            f"  {bpb:.3f} bits per byte" if bpb is not None else ""
        )
        return ["", grid, Text(f"       {scores}", overflow="ellipsis", no_wrap=True)]

    def _sparkline(self) -> str:
        return sparkline(self.losses, BAR_COLUMNS) if self.has_unicode else ""


def sparkline(values: list[float], columns: int) -> str:
    """The values as a curve in one line of text. Each character shows the mean of one or more values."""
    columns = min(columns, len(values))
    edges = [i * len(values) // columns for i in range(columns + 1)] if columns else []
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    if not means:
        return ""
    low, span = min(means), max(means) - min(means)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (mean - low) / span) if span else 0] for mean in means)
