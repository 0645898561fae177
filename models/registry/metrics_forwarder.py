"""Forwards the growing metrics.jsonl of a training run to its MLflow run."""

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from models.metrics_log import REPLIES, STEP, SYSTEM, VALIDATION, Reader
from models.registry.runs import Point, Tracking

log = logging.getLogger(__name__)

MAX_POINTS = 1000  # the maximum number of points per metric; more would slow MLflow's page down
# All of the first LIVE_POINTS points of a growing curve are sent; after that, every 2nd, then every 4th, ...
LIVE_POINTS = 128
KEYS = {
    STEP: {
        "loss": "train/loss",
        "accuracy": "train/accuracy",
        "learning_rate": "train/learning_rate",
        "grad_norm": "train/grad_norm",
        "tokens_per_second": "system/tokens_per_second",
    },
    VALIDATION: {
        "loss": "validation/loss",
        "accuracy": "validation/accuracy",
        "bpb": "validation/bpb",
    },
    REPLIES: {
        "distinct_1": "validation/distinct_1",
        "distinct_2": "validation/distinct_2",
        "repetition": "validation/repetition",
        "commonest_reply_share": "validation/commonest_reply_share",
        "stopped_share": "validation/stopped_share",
    },
    SYSTEM: {
        "memory_gb": "system/memory_gb",
        "cpu_percent": "system/cpu_percent",
        "gpu_memory_gb": "system/gpu_memory_gb",
        "gpu_percent": "system/gpu_percent",
    },
}
"""For each kind of line, the fields that are sent, with the names that their metrics have in MLflow."""


class MetricsForwarder:
    """Sends the metrics in a growing metrics.jsonl to an MLflow run, in a thread that logs all errors.

    The longer a curve gets, the smaller the share of its new points that is sent; `close` then adds evenly
    spaced points, up to 1,000 points per curve. Points delayed by an outage are sent later: `close` sends any
    that remain, and if it cannot, the next forwarder for the same file does. A step that the MLflow run
    already has is not sent again. `certain` returns how many bytes at the start of the file are final. Only
    lines within these bytes are sent: after a divergence, training truncates the file to its size at the last
    checkpoint, but points that MLflow already has cannot be deleted.
    """

    def __init__(
        self,
        tracking: Tracking,
        run_id: str,
        path: Path,
        every_s: float = 5.0,
        certain: Callable[[], int] | None = None,
    ) -> None:
        self._tracking, self._run_id, self._path, self._every_s = tracking, run_id, path, every_s
        self._certain = certain
        self._reader = Reader(path, certain)
        self._num_points: dict[str, int] = defaultdict(int)  # points of each curve in the file so far
        self._waiting: list[Point] = []
        self._sent: dict[str, set[int]] = {}
        self._complete = self._warned = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics-forwarder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, timeout_s: float = 60.0) -> bool:
        """Send all missing points; return whether all of them arrived within `timeout_s`."""
        self._stop.set()
        if self._thread.ident is None:
            self._thread.start()
        self._thread.join(timeout_s)
        return self._complete

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            self._try(self._forward)
        self._complete = self._try(self._send_rest)

    def _try(self, send: Callable[[], None]) -> bool:
        try:
            send()
        except Exception as error:  # an MLflow error must not end the training run
            if not self._warned:
                log.warning("metrics stay in %s until MLflow accepts them: %s", self._path, error)
            self._warned = True
            return False
        return True

    def _forward(self) -> None:
        """Send some of the new points: a curve is subsampled as long as its final length is unknown."""
        for point in _points(self._reader.read()):
            index = self._num_points[point[0]]
            self._num_points[point[0]] += 1
            # Beyond LIVE_POINTS, the interval between sent points doubles each time the curve's length does.
            if index % (1 << (index // LIVE_POINTS).bit_length()) == 0:
                self._waiting.append(point)
        self._send(self._waiting)
        self._waiting = []

    def _send_rest(self) -> None:
        """Send missing points, evenly spaced, so that each curve has at most MAX_POINTS in total."""
        curves: dict[str, list[Point]] = defaultdict(list)
        for point in read_points(self._path, self._certain):
            curves[point[0]].append(point)
        for key, points in curves.items():
            missing = [point for point in points if point[3] not in self._steps(key)]
            self._send(evenly(missing, MAX_POINTS - len(self._steps(key))))

    def _send(self, points: list[Point]) -> None:
        new: dict[tuple[str, int], Point] = {}
        remaining = {key: MAX_POINTS - len(self._steps(key)) for key in {point[0] for point in points}}
        for point in points:
            key, step = point[0], point[3]
            if step not in self._steps(key) and (key, step) not in new and remaining[key] > 0:
                new[key, step] = point
                remaining[key] -= 1
        self._tracking.log_metrics(self._run_id, list(new.values()))
        for key, step in new:
            self._steps(key).add(step)

    def _steps(self, key: str) -> set[int]:
        # MLflow is asked once per curve which steps it has: an earlier forwarder may have sent some.
        if key not in self._sent:
            self._sent[key] = self._tracking.metric_steps(self._run_id, key)
        return self._sent[key]


def read_points(path: Path, certain: Callable[[], int] | None = None) -> list[Point]:
    """Return the points in all complete lines; each step of a curve occurs once."""
    return list(_points(Reader(path, certain).read()))


def evenly(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most `most` of the points. They are evenly spaced and include the last point."""
    if len(points) <= most:
        return list(points)
    return [points[len(points) - 1 - i * len(points) // most] for i in reversed(range(most))]


def _points(lines: Iterable[dict[str, Any]]) -> Iterator[Point]:
    """Yield a point for each metric in the lines, ignoring unknown kinds of lines and all other fields."""
    for line in lines:
        try:
            keys, time_ms, step = KEYS[line["kind"]], int(line["time"]), int(line["step"])
        except (ValueError, KeyError, TypeError):
            continue
        for name, key in keys.items():
            value: Any = line.get(name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and math.isfinite(value):
                yield key, float(value), time_ms, step
