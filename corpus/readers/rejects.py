"""Rejects: the lines of a corpus that could not be used, counted by cause and stored with a sample."""

import math
from collections import Counter

REJECTS_STORED = 10_000  # with their text; the others are counted


class Rejects:
    """The lines that could not be used: all are counted by cause, the first ones are stored."""

    def __init__(self, most: float = math.inf) -> None:
        """`most`: how many there may be; one more ends the reading once no more are stored."""
        self.rows: list[dict[str, str | int]] = []
        self.by_cause: Counter[str] = Counter()
        self.read = 0
        self.most = most

    @property
    def count(self) -> int:
        return self.by_cause.total()

    def add(self, file: str, line: int, cause: str, raw: str) -> None:
        """
        Raises:
            TooManyRejects: more than `most`, so that reading on cannot help.
        """
        self.by_cause[cause] += 1
        if len(self.rows) < REJECTS_STORED:
            sample = raw[:200].encode("utf-8", "replace").decode()  # half of a surrogate pair has no UTF-8
            self.rows.append({"file": file, "line": line, "cause": cause, "sample": sample})
        elif self.count > self.most:
            raise TooManyRejects


class TooManyRejects(Exception):
    """The share of unusable lines cannot be met any more."""
