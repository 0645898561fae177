"""Unused outputs: those in the store that no run has used for a long time, and that no output in use needs.

Each use of an output updates the modification time of its folder (`find` in artifact.py).
"""

import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from models.partial import PREFIX
from tasks.store.artifact import MANIFEST, StoredOutput, stored_outputs

SECONDS_PER_DAY = 86_400


class Unused(NamedTuple):
    """An output that can be removed."""

    stage: str
    path: Path


def unused_outputs(home: Path, days: float, needed: Collection[str]) -> list[Unused]:
    """The outputs that have not been used for this many days, in the order of their stages' names.

    Args:
        needed: fingerprints of training runs whose outputs stay, with everything they were built from.
    """
    folders = sorted((home / "store").glob(f"*/[!.]*/{MANIFEST}"))
    stages = {folder.parent.parent.name for folder in folders}
    outputs = {stage: stored_outputs(home, stage) for stage in sorted(stages)}
    since_s = time.time() - days * SECONDS_PER_DAY
    needed_digests = {
        each.digest
        for stage, of_stage in outputs.items()
        for each in of_stage
        if (stage == "train" and each.fingerprint in needed) or _is_newer(each, since_s)
    }
    # An output is built from outputs of earlier stages only, so this ends after as many rounds as stages.
    all_outputs = [each for of_stage in outputs.values() for each in of_stage]
    while (
        more := {
            digest for each in all_outputs if each.digest in needed_digests for digest in each.inputs.values()
        }
        - needed_digests
    ):
        needed_digests |= more
    return [
        Unused(stage, each.path)
        for stage, of_stage in outputs.items()
        for each in of_stage
        if each.digest not in needed_digests
    ]


def remove(output: Unused) -> None:
    """Remove an output. If the process is killed meanwhile, the next run removes the rest."""
    aside = output.path.with_name(f"{PREFIX}{output.path.name}-unused")
    with suppress(FileNotFoundError):  # another process has removed it
        output.path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _is_newer(output: StoredOutput, since_s: float) -> bool:
    try:
        return output.path.stat().st_mtime >= since_s
    except FileNotFoundError:
        return False
