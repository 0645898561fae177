"""Rejects: the lines of a corpus that cannot be used, counted by cause."""

import math
from collections import Counter

REJECTS_STORED = 10_000  # each with the beginning of its text; later rejects are only counted


class Rejects:
    """The lines that cannot be used: all of them are counted by cause, and the first are stored."""

    def __init__(self, *, max_share: float = math.inf, total_lines: int = 1) -> None:
        """Start empty; once `rows` is full, more rejects than `max_share` of `total_lines` are an error."""
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
        """Count a line as a reject, and store it unless `REJECTS_STORED` rejects are already stored.

        Raises:
            TooManyRejects: no more rejects are stored, and they are more than `max_share` of all lines.
        """
        self.by_cause[cause] += 1
        if len(self.rows) < REJECTS_STORED:
            sample = raw[:200].encode("utf-8", "replace").decode()  # UTF-8 cannot encode a lone surrogate
            self.rows.append({"file": file, "line": line, "cause": cause, "sample": sample})
        elif self.count / self.total_lines > self.max_share:
            raise TooManyRejects


class TooManyRejects(Exception):
    """The share of unusable lines is larger than the share that is allowed."""
