"""Rejects: the lines of a corpus that cannot be used, counted by cause."""

import math
from collections import Counter

REJECTS_STORED = 10_000  # rejects after the first 10,000 are only counted
# Nobody knows how much of a file is missing if it cannot be read to its end. This share is assumed, so that
# such a file is only used if the user allows more rejects than usual.
MISSING_SHARE = 0.05


class Rejects:
    """The unusable lines: all are counted by cause, and the first `REJECTS_STORED` of them are stored."""

    def __init__(self, *, max_share: float = math.inf, total_lines: float = 1) -> None:
        """Start with no rejects; `max_share` is the largest share of `total_lines` that `add` accepts."""
        self.rows: list[dict[str, str | int]] = []
        self.by_cause: Counter[str] = Counter()
        self.lines_read = 0
        self.max_share = max_share
        self.total_lines = total_lines
        self.cut_files: list[str] = []
        """The names of the files that cannot be read to their end."""

    @property
    def count(self) -> int:
        """The number of all rejects."""
        return self.by_cause.total()

    @property
    def share(self) -> float:
        """The share of rejects among the lines that were read; a file without its end counts as well."""
        missing = MISSING_SHARE if self.cut_files else 0.0
        return min(1.0, self.count / max(1, self.lines_read) + missing)

    def add(self, file: str, line: int, cause: str, raw: str, *, lines: int = 1) -> None:
        """Count a line as a reject, and store it unless `REJECTS_STORED` rejects are already stored.

        Args:
            lines: the number of lines that cannot be used for this cause, of which `line` is the first.

        Raises:
            TooManyRejects: `REJECTS_STORED` rejects were already stored, and the share of rejects among all
                lines is now larger than `max_share`.
        """
        self.by_cause[cause] += lines
        if len(self.rows) < REJECTS_STORED:
            sample = raw[:200].encode("utf-8", "replace").decode()  # UTF-8 cannot encode a lone surrogate
            self.rows.append({"file": file, "line": line, "cause": cause, "sample": sample})
        elif self.count / self.total_lines > self.max_share:
            raise TooManyRejects


class TooManyRejects(Exception):
    """The share of unusable lines is larger than allowed."""
