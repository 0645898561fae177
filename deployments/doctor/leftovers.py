"""Leftovers: training runs and downloads that were interrupted, were never resumed, and take up disk
space."""

import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deployments.disk import size_text, used_bytes
from deployments.doctor.installation import Fault, Installation
from models.locks import is_held
from tasks.noise.measurement import FOLDER as NOISE
from tasks.provenance.reproduction import FOLDER as REPRODUCTIONS

MAX_AGE_DAYS = 30  # users resume interrupted work within days or never


def leftovers(installation: Installation) -> Iterator[Fault]:
    """No interrupted training run or download is older than a month."""
    for what, paths in interrupted(installation.home, MAX_AGE_DAYS).items():
        yield _fault(what, paths)


def interrupted(home: Path, days: float) -> dict[str, list[Path]]:
    """The files and folders of interrupted training runs and downloads that nobody has resumed for this many
    days, by kind. Kinds without any are left out."""
    runs = [each for each in (home / "runs").glob("*") if not is_held(each / "lock")]
    runs += [*(home / REPRODUCTIONS).glob("*"), *(home / NOISE).glob("*")]
    downloads = home / "store" / "download" / ".partial"
    parts = [each for each in downloads.glob("*.part") if not is_held(each.with_suffix(".lock"))]
    for folder in downloads.glob("*/"):  # of a data set of the hub, with a lock for all of its files
        if not is_held(folder.with_name(f"{folder.name}.lock")):
            parts += folder.glob("*.part")
    parts = [each for each in parts if _days(each) > days]
    described = (each.with_name(f"{each.name}.json") for each in parts)
    found = {
        "training run": [each for each in runs if _days(each) > days],
        "download": [*parts, *(each for each in described if each.exists())],
    }
    return {what: paths for what, paths in found.items() if paths}


def _fault(what: str, paths: list[Path]) -> Fault:
    size = size_text(sum(used_bytes(each) if each.is_dir() else _size(each) for each in paths))
    count = sum(each.suffix != ".json" for each in paths)
    subject, them = (f"{count} {what}s were", "them") if count > 1 else (f"a {what} was", "it")
    return Fault(
        f"{subject} interrupted, and nobody has resumed {them} for {MAX_AGE_DAYS} days: "
        f"{size} ({paths[0].parent})",
        f"rm -r {' '.join(shlex.quote(str(each)) for each in paths if each.exists())}",
    )


def _days(path: Path) -> float:
    """The number of days since the last change to this file, or to anything in this folder; 0 if a file
    disappears during the check."""
    newest_s = time.time()
    with suppress(FileNotFoundError):
        newest_s = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    return (time.time() - newest_s) / 86_400


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.lstat().st_size
    return 0
