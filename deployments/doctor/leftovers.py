"""What grows without an end: trainings and downloads that nobody went on with."""

import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deployments.doctor.installation import Fault, Installation
from deployments.status import size_text, used_bytes
from models.locks import is_held

LEFT_DAYS = 30  # the same command goes on with what was cut off, and nobody waits so long


def leftovers(installation: Installation) -> Iterator[Fault]:
    """No training and no download that was cut off has been left for a month."""
    runs = [each for each in (installation.home / "runs").glob("*") if not is_held(each / "lock")]
    if left := [each for each in runs if _days(each) > LEFT_DAYS]:
        yield _fault("training", left)
    downloads = (installation.home / "store" / "download" / ".partial").glob("*.part")
    parts = [each for each in downloads if not is_held(each.with_name(f"{each.stem}.lock"))]
    if left := [each for each in parts if _days(each) > LEFT_DAYS]:
        yield _fault("download", [*left, *(each.with_name(f"{each.name}.json") for each in left)])


def _fault(what: str, paths: list[Path]) -> Fault:
    size = size_text(sum(used_bytes(each) if each.is_dir() else _size(each) for each in paths))
    count = sum(each.suffix != ".json" for each in paths)
    many = f"{count} {what}s that were" if count > 1 else f"a {what} that was"
    return Fault(
        f"{many} cut off and nobody has gone on with for {LEFT_DAYS} days: {size} ({paths[0].parent})",
        f"rm -r {' '.join(shlex.quote(str(each)) for each in paths if each.exists())}",
    )


def _days(path: Path) -> float:
    """Since its newest change; what vanishes while it is looked at has just changed."""
    newest_s = time.time()
    with suppress(FileNotFoundError):
        newest_s = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    return (time.time() - newest_s) / 86_400


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):
        return file.lstat().st_size
    return 0
