"""Prune: what takes up space in a home and is of no use any more, and its removal.

Models in service, the champion before, their data, and everything that a run has used lately are kept.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployments.disk import used_bytes
from deployments.doctor.leftovers import interrupted
from flows.lifecycle.locks import Busy, my_turn
from models.errors import InputError
from models.registry.reference import open_registry
from models.registry.tags import FINGERPRINT
from settings import Settings
from tasks.store.unused import Unused, remove, unused_outputs


@dataclass(frozen=True)
class Prunable:
    """What can be removed, with its size in bytes."""

    what: str
    """The kind, such as `outputs of train`."""
    count: int
    size_bytes: int


def prune(days: float, *, deletes: bool) -> list[Prunable]:
    """List what has not been used for this many days and is not needed; if `deletes`, remove it as well.

    Raises:
        InputError: a run is training in this home, so nothing can be removed now.
        TrackingUnavailable: MLflow does not answer, so it is unknown which models are in service.
    """
    home = Settings().root
    if not deletes:
        found = _find(home, days)
        return _counted(found)
    try:
        with my_turn(home, "prune"):
            found = _find(home, days)
            counted = _counted(found)
            for each in found:
                _remove(each)
    except Busy as busy:
        raise InputError(
            f"nothing was deleted: {busy}; run `repartee prune` again when it has ended"
        ) from None
    return counted


Candidate = tuple[str, Unused | Path]


def _find(home: Path, days: float) -> list[Candidate]:
    outputs = unused_outputs(home, days, _needed())
    candidates: list[Candidate] = [(f"outputs of {each.stage}", each) for each in outputs]
    for what, paths in interrupted(home, days).items():
        candidates += [(f"interrupted {what}s", path) for path in paths]
    return candidates


def _needed() -> set[str]:
    """The fingerprints of the training runs whose models have an alias: the champion, the one before, ..."""
    return {tag for tag in _aliased_fingerprints() if tag}


def _aliased_fingerprints() -> Iterator[str]:
    registry = open_registry(Settings())
    for line in {*registry.lines(), registry.model}:
        for version in open_registry(Settings(), line).versions():
            if version.aliases:
                yield version.tags.get(FINGERPRINT, "")


def _counted(candidates: list[Candidate]) -> list[Prunable]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for what, each in candidates:
        path = each if isinstance(each, Path) else each.path
        counts[what] += path.suffix != ".json"  # the description of a partial download is no download
        sizes[what] += used_bytes(path) if path.is_dir() else path.lstat().st_size
    return [Prunable(what, counts[what], sizes[what]) for what in counts]


def _remove(candidate: Candidate) -> None:
    _, each = candidate
    if isinstance(each, Unused):
        remove(each)
    elif each.is_dir():
        shutil.rmtree(each)
    else:
        each.unlink(missing_ok=True)
