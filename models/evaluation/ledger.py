"""Ledger: all comparisons of new models with the champion in a home, as one JSON line each.

    decisions/LINE-DIGEST.jsonl
    decisions/test-sets/DIGEST.json     the groups of a test set, as digests of their names

The ledger shows how often a model line has decided with a test set: each further decision makes it more
likely that a model is promoted by chance. Lines are only ever appended. The same comparison (the same model,
champion and test set) has the same number each time.
"""

import hashlib
import json
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from models.files import sync
from models.json_lines import append_line, read_lines
from models.model_name import file_name_of
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
    """The time of the decision, in UTC and ISO 8601."""
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
    """The margin that the lower limit had to exceed."""
    margin_from: str = ""
    """Where the margin came from: a setting, a measurement or the default."""
    promote: bool
    reason: str
    flow_run_id: str | None = None

    @property
    def comparison(self) -> Comparison:
        return Comparison(self.model, self.champion, self.test_set)


class Standing(NamedTuple):
    """How far earlier decisions have used up a test set for one comparison."""

    number: int
    """The number that a decision on this comparison has, or would have."""
    fresh_groups: list[str]
    """The groups of the test set that no other decision has used."""


class Ledger:
    """The decisions on one model line in one home."""

    def __init__(self, home: Path, line: str) -> None:
        self.path = home / FOLDER / f"{file_name_of(line)}.jsonl"
        self._test_sets = home / FOLDER / "test-sets"

    def decisions(self) -> list[Decision]:
        """All decisions, the oldest first. A line that cannot be read is skipped with a warning."""
        return list(read_lines(self.path, Decision))

    def known_number(self, comparison: Comparison) -> int | None:
        """The number of the decision on this comparison; None if there is no decision yet."""
        return next((each.number for each in self.decisions() if each.comparison == comparison), None)

    def standing(self, comparison: Comparison, groups: Collection[str]) -> Standing:
        """How far earlier decisions have used up the groups of a test set.

        If the groups of an earlier test set are not known any more, its decisions count.
        """
        decisions = self.decisions()
        others = [each for each in decisions if each.comparison != comparison]
        known = next((each.number for each in decisions if each.comparison == comparison), None)
        names = {_digest(name): name for name in groups}
        used = {test_set: self._groups_of(test_set) for test_set in {each.test_set for each in others}}
        sharing = {test_set for test_set, own in used.items() if own is None or own & names.keys()}
        number = known or 1 + len({each.comparison for each in others if each.test_set in sharing})
        fresh = names.keys() - set[str]().union(*(own for own in used.values() if own))
        return Standing(number, sorted(names[digest] for digest in fresh))

    def append(self, decision: Decision, groups: Collection[str]) -> None:
        self._test_sets.mkdir(parents=True, exist_ok=True)
        file = self._test_sets / f"{decision.test_set}.json"
        if not file.exists():
            partial = file.with_suffix(f".{os.getpid()}.tmp")
            partial.write_text(json.dumps(sorted(map(_digest, groups))))
            sync(partial)
            partial.replace(file)
        append_line(self.path, decision)

    def _groups_of(self, test_set: str) -> set[str] | None:
        """The digests of the groups of a test set; None if its file is missing or cannot be read."""
        file = self._test_sets / f"{test_set}.json"
        try:
            return set(json.loads(file.read_text()))
        except (FileNotFoundError, ValueError) as error:
            log.warning("gate: %s cannot be read (%s), so each decision on this test set counts", file, error)
            return None


def _digest(group: str) -> str:
    return hashlib.sha256(group.encode("utf-8", "replace")).hexdigest()[:16]
