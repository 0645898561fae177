"""Rejects: the lines of a corpus that cannot be used, counted by cause."""

import math
from collections import Counter

REJECTS_STORED = 10_000  # with the beginning of their text; the others are only counted


class Rejects:
    """The lines that cannot be used: all are counted by cause, the first ones are stored."""

    def __init__(self, *, max_share: float = math.inf, total_lines: int = 1) -> None:
        """Once no more rejects are stored, more than `max_share` of `total_lines` end the reading."""
        self.rows: list[dict[str, str | int]] = []
        self.by_cause: Counter[str] = Counter()
        self.lines_read = 0
        self.max_share = max_share
        self.total_lines = total_lines

    @property
    def count(self) -> int:
        """The number of all rejects."""
        return self.by_cause.total()

    def add(self, file: str, line: int, cause: str, raw: str) -> None:
        """Count a line as a reject, and store it if there is room.

        Raises:
            TooManyRejects: the rejects are more than `max_share` of all lines.
        """
        self.by_cause[cause] += 1
        if len(self.rows) < REJECTS_STORED:
            sample = raw[:200].encode("utf-8", "replace").decode()  # a lone surrogate has no UTF-8
            self.rows.append({"file": file, "line": line, "cause": cause, "sample": sample})
        elif self.count / self.total_lines > self.max_share:
            raise TooManyRejects


class TooManyRejects(Exception):
    """There are more unusable lines than the allowed share of all lines."""
