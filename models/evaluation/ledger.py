"""Ledger: every comparison of a new model with the champion that a home has made, one JSON line each.

    decisions/LINE-DIGEST.jsonl
    decisions/test-sets/DIGEST.json     the groups of a test set, as digests of their names

The ledger knows how often a model line has used a test set to decide, because each further decision makes it
more likely that a model is promoted by chance. Lines are only ever appended. The same comparison (the same
model, champion and test set) has the same number each time.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from models.record import Record

log = logging.getLogger(__name__)

FOLDER = "decisions"


class Comparison(NamedTuple):
    """A new model and a champion (the digests of their files), and the test set that compares them."""

    model: str
    champion: str
    test_set: str


class Decision(Record):
    """A line of the ledger. Bits are bits per byte."""

    at: str
    """When the decision was made, in UTC and ISO 8601."""
    model: str
    champion: str
    champion_version: int
    test_set: str
    number: int
    """1 for the first decision of the model line that used any group of this test set, then 2, 3 ..."""
    gain: float
    lower: float
    """The lower limit of the gain, with the probability `confidence`."""
    confidence: float
    groups: int
    fresh_groups: int
    """The number of groups that no earlier decision had used."""
    fresh_gain: float | None
    """The gain on these groups alone."""
    min_gain: float
    promote: bool
    reason: str
    flow_run_id: str | None = None

    @property
    def comparison(self) -> Comparison:
        return Comparison(self.model, self.champion, self.test_set)


class Ledger:
    """The decisions on one model line in one home."""

    def __init__(self, home: Path, line: str) -> None:
        digest = hashlib.sha256(line.encode()).hexdigest()[:8]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", line)[:60]
        self.path = home / FOLDER / f"{readable}-{digest}.jsonl"
        self._test_sets = home / FOLDER / "test-sets"

    def decisions(self) -> list[Decision]:
        """All decisions, the oldest first. A line that cannot be read is skipped with a warning."""
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(Decision.model_validate(json.loads(line)))
            except ValueError:  # a process was killed while it wrote the line
                log.warning("gate: line %d of %s cannot be read and is skipped", number, self.path)
        return found

    def known_number(self, comparison: Comparison) -> int | None:
        """The number of this comparison if a decision on it has been made; otherwise None."""
        return next((each.number for each in self.decisions() if each.comparison == comparison), None)

    def number(self, comparison: Comparison, groups: Collection[str]) -> int:
        """The number that a decision on this comparison has, or would have."""
        known = self.known_number(comparison)
        return known or 1 + len({each.comparison for each in self._sharing(groups)})

    def fresh_groups(self, comparison: Comparison, groups: Collection[str]) -> list[str]:
        """The groups that no other decision has used."""
        used: set[str] = set()
        for test_set in {each.test_set for each in self.decisions() if each.comparison != comparison}:
            used |= self._groups_of(test_set)
        return sorted(name for name in groups if _digest(name) not in used)

    def append(self, decision: Decision, groups: Collection[str]) -> None:
        self._test_sets.mkdir(parents=True, exist_ok=True)
        file = self._test_sets / f"{decision.test_set}.json"
        if not file.exists():
            partial = file.with_suffix(f".{os.getpid()}.tmp")
            partial.write_text(json.dumps(sorted(map(_digest, groups))))
            partial.replace(file)
        # A line break before the line separates it from one whose writer was killed.
        line = b"\n" + decision.model_dump_json().encode() + b"\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _sharing(self, groups: Collection[str]) -> list[Decision]:
        """The decisions whose test sets share a group with these groups."""
        digests = set(map(_digest, groups))
        return [each for each in self.decisions() if digests & self._groups_of(each.test_set)]

    def _groups_of(self, test_set: str) -> set[str]:
        try:
            return set(json.loads((self._test_sets / f"{test_set}.json").read_text()))
        except (FileNotFoundError, ValueError):
            return set()


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode("utf-8", "replace")).hexdigest()[:16]
