"""Prune: what takes up space in a home and is of no use any more, and its removal.

Models in service, the champion before, their data, and everything that a run has used lately are kept.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from deployments.disk import used_bytes
from deployments.doctor.leftovers import interrupted
from flows.lifecycle.locks import Busy, my_turn
from models.errors import InputError
from models.registry.reference import open_registry
from models.registry.tags import FINGERPRINT
from settings import Settings
from tasks.store.shards import SHARDS
from tasks.store.unused import remove, unused_outputs


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
        return _counted(_find(home, days))
    try:
        with my_turn(home, "prune"):
            found = _find(home, days)
            counted = _counted(found)
            for each in found:
                each.remove()
    except Busy as busy:
        raise InputError(
            f"nothing was deleted: {busy}; run `repartee prune` again when it has ended"
        ) from None
    return counted


class Candidate(NamedTuple):
    """Something that can be removed."""

    what: str
    path: Path
    remove: Callable[[], None]


def _find(home: Path, days: float) -> list[Candidate]:
    outputs = unused_outputs(home, days, _needed())
    found = [Candidate(_kind(each.stage), each.path, partial(remove, each)) for each in outputs]
    for what, paths in interrupted(home, days).items():
        found += [Candidate(f"interrupted {what}s", path, partial(_delete, path)) for path in paths]
    return found


def _kind(stage: str) -> str:
    return "shards of stages" if stage == SHARDS else f"outputs of {stage}"


def _needed() -> set[str]:
    """The fingerprints of the training runs whose models have an alias: the champion, the one before, ..."""
    registry = open_registry(Settings())
    lines = {*registry.lines(), registry.model}
    versions = [version for line in lines for version in open_registry(Settings(), line).versions()]
    in_service = [version.tags for version in versions if version.aliases]
    return {tags[FINGERPRINT] for tags in in_service if FINGERPRINT in tags}


def _counted(candidates: list[Candidate]) -> list[Prunable]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for what, path, _ in candidates:
        counts[what] += path.suffix != ".json"  # the description of a partial download is no download
        sizes[what] += used_bytes(path) if path.is_dir() else path.lstat().st_size
    return [Prunable(what, counts[what], sizes[what]) for what in counts]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
