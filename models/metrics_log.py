"""A training run's logs: metrics.jsonl for programs, train.log for users, notices.jsonl for the launcher, and
elapsed.txt for a run that repeats this one (models/training/schedule.py).

A resumed training run first truncates all files but notices.jsonl to the sizes that they had when its
checkpoint was written, so that no step or epoch is logged twice. `Reader` can read metrics.jsonl while it
grows, even if it is truncated meanwhile. notices.jsonl passes the trainer's log records to the process that
started the trainer.
"""

import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from models.files import sync

log = logging.getLogger(__name__)

METRICS, NOTICES, ELAPSED = "metrics.jsonl", "notices.jsonl", "elapsed.txt"

# The kinds of lines. A line is a plain dictionary and not a Record, for speed: many lines are written.
STEP = "step"  # the loss, learning rate and speed of the latest steps
VALIDATION = "validation"  # the score of the validation sample
EPOCH = "epoch"  # the mean loss and accuracy of an epoch, and its last validation
REPLIES = "replies"  # statistics of greedy replies
SYSTEM = "system"  # the memory and the load of the training process
SKIP = "skip"  # a step that was skipped because its loss or gradient was faulty
NOTICE = "notice"  # a log record, in notices.jsonl

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_bpb",
    "seconds",
)
HEADER = " ".join(f"{name:>19}" for name in COLUMNS) + "\n"


class MetricsLog:
    """Writes metrics.jsonl, train.log and elapsed.txt of a run folder."""

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.writes = writes  # True in only one process of a training run
        self.paths = {
            "metrics": folder / METRICS,
            "log": folder / "train.log",
            "elapsed": folder / ELAPSED,
        }
        self._waiting: list[str] = []

    def begin(self, sizes: dict[str, int] | None) -> None:
        """Truncate the files to the `sizes` that they had at a checkpoint; if `sizes` is None, empty them."""
        if not self.writes:
            return
        for name, path in self.paths.items():
            with path.open("ab") as file:
                # Truncating a file to more than its size would append zeros.
                file.truncate(min(file.tell(), (sizes or {}).get(name, 0)))
        if sizes is None:
            self.paths["log"].write_text(HEADER)

    def synced_sizes(self) -> dict[str, int]:
        """Flush the files to the disk, and return their sizes."""
        self._write_waiting()
        for path in self.paths.values():
            sync(path)
        return {name: path.stat().st_size for name, path in self.paths.items()}

    def write(self, kind: str, **metrics: Any) -> None:
        if not self.writes:
            return
        self._write_waiting()
        line = {"kind": kind, "time": time.time_ns() // 1_000_000, **metrics}
        with self.paths["metrics"].open("a") as file:
            file.write(json.dumps(line) + "\n")

    def write_elapsed(self, seconds: float) -> None:
        """Note the elapsed time at the next step, or at the end of training, with all its digits.

        It is written with the next line of metrics, because opening a file at each step would take time.
        """
        self._waiting.append(f"{seconds!r}\n")

    def _write_waiting(self) -> None:
        if self.writes and self._waiting:
            with self.paths["elapsed"].open("a") as file:
                file.write("".join(self._waiting))
        self._waiting.clear()

    def write_epoch(self, **m: Any) -> None:
        """Write the epoch's line to both files, and sync train.log to the disk."""
        if not self.writes:
            return
        self.write(EPOCH, **m)
        with self.paths["log"].open("a") as file:
            file.write(" ".join(f"{m[name]:>19.6g}" for name in COLUMNS) + "\n")
            file.flush()
            os.fsync(file.fileno())


def checkpointed_size(folder: Path) -> int:
    """The size of metrics.jsonl at the newest checkpoint; the file is never truncated below this size."""
    for path in sorted((folder / "checkpoints").glob("[0-9]*/state.json"), reverse=True):
        try:
            return int(json.loads(path.read_text())["journal"]["metrics"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the checkpoint is being replaced at this moment, or is damaged
    return 0


class NoticeHandler(logging.Handler):
    """Writes each log record as a line of a run folder's notices.jsonl."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.INFO)
        self.path = folder / NOTICES

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = {"kind": NOTICE, "time": time.time_ns() // 1_000_000, "level": record.levelname}
            with self.path.open("a") as file:
                file.write(json.dumps({**line, "message": record.getMessage()}) + "\n")
        except Exception:  # such as a full disk, which the next checkpoint reports
            self.handleError(record)


def of_kind(lines: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == kind]


class Reader:
    """Reads a JSON Lines file while another process appends lines to it or truncates it.

    Only complete lines are returned. Of each kind of line, the line for a given step is returned only once,
    even if it is written again after a truncation. `certain`, if given, returns the number of bytes at the
    start of the file that will never be truncated; lines beyond these bytes are left for later calls.
    """

    def __init__(self, path: Path, certain: Callable[[], int] | None = None) -> None:
        self.path, self._certain = path, certain
        self._position = 0
        self._last = b""  # the last line that was read; if it has changed, the file was truncated
        self._steps: dict[str, int] = {}  # the highest step read so far, by kind of line
        self._earlier: set[int] = set()
        self._warned = False

    def skip(self) -> None:
        """Mark the file's present lines as old: `read` never returns them, even if they are written again."""
        self._earlier = {hash(line) for line in self._read_bytes()}

    def read(self) -> list[dict[str, Any]]:
        """The lines that have been added since the last call."""
        lines = (self._parse(line) for line in self._read_bytes() if hash(line) not in self._earlier)
        return [line for line in lines if line is not None and self._is_new(line)]

    def _read_bytes(self) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(self._position - len(self._last))
                if file.read(len(self._last)) != self._last:
                    self._position = 0
                file.seek(self._position)
                limit = -1 if self._certain is None else max(0, self._certain() - self._position)
                whole = [line for line in io.BytesIO(file.read(limit)) if line.endswith(b"\n")]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror}")
            return []
        self._position += sum(map(len, whole))
        if whole or not self._position:
            self._last = whole[-1] if whole else b""
        return whole

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        """The line's content, or None if the line is damaged; only the first problem in a file is logged."""
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if isinstance(content, dict) and isinstance(content.get("kind"), str):
            return content
        self._warn(f"has a damaged line, which is ignored: {line[:60]!r}")
        return None

    def _warn(self, problem: str) -> None:
        if not self._warned:
            log.warning("%s %s", self.path, problem)
        self._warned = True

    def _is_new(self, line: dict[str, Any]) -> bool:
        step = line.get("step")
        if not isinstance(step, int):
            return True
        if step <= self._steps.get(line["kind"], -1):
            return False
        self._steps[line["kind"]] = step
        return True
