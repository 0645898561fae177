"""Artifacts: the outputs of the stages, each stored once under its fingerprint.

    store/STAGE/FINGERPRINT/...files..., logs/...files..., manifest.json

An output folder is built under a temporary name, and its manifest is written last. The folder is then flushed
to disk and renamed, so that an output is either complete or absent. The files in logs/ record how the stage
ran; they are not part of the output's digest.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from models.errors import InputError, is_out_of_space
from models.files import sha256, sync
from models.locks import lock
from models.partial import sweep

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SAME = "inputs, settings, code and libraries are the same"
LIBRARIES = ("torch", "transformers", "tokenizers", "pyarrow", "pandas", "prefect", "mlflow")


@dataclass(frozen=True)
class Artifact:
    """A reference to a finished output. Tasks pass each other this reference, never the output itself."""

    stage: str
    fingerprint: str
    digest: str
    path: Path
    rows: int
    status: Literal["ran", "reused"]
    seconds: float
    why: str
    unit: str = "rows"
    """What `rows` counts, as a plural noun such as `turns`."""


@dataclass(frozen=True)
class StoredOutput:
    """An output in the store, as described by its manifest. The files of the output are not verified."""

    fingerprint: str
    path: Path
    digest: str
    inputs: Mapping[str, str]
    """The digests of the outputs from which this output was built, by stage name."""
    created_at: str


class CorruptArtifact(Exception):
    """A stored file is missing or has changed since it was written; the message names the file."""


def find(home: Path, stage: str, fingerprint: str) -> Artifact | None:
    """The stored output with this fingerprint, verified byte for byte; None if it is missing or damaged.

    The modification time of its folder becomes the time of this use, which `repartee prune` goes by.
    """
    folder = home / "store" / stage / fingerprint
    try:
        manifest = verify(folder)
    except CorruptArtifact as damage:
        log.warning("%s: %s; the stage runs again", stage, damage)
        return None
    if manifest is None:
        return None
    with suppress(OSError):  # a home that is mounted read-only
        os.utime(folder)
    return Artifact(
        stage=stage,
        fingerprint=fingerprint,
        digest=manifest["digest"],
        path=folder,
        rows=manifest["rows"],
        status="reused",
        seconds=0.0,
        why=SAME,
    )


def verify(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete output; None if there is no output.

    Raises:
        CorruptArtifact: a file is missing, or its bytes differ from what was written.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
    except FileNotFoundError:
        if folder.exists():
            raise CorruptArtifact(f"{folder / MANIFEST} is missing") from None
        return None
    except (ValueError, KeyError, TypeError):
        raise CorruptArtifact(f"{folder / MANIFEST} cannot be read") from None
    for name, known in files.items():
        path = folder / name
        if not path.is_file():
            raise CorruptArtifact(f"{path} is missing")
        if path.stat().st_size != known["bytes"] or sha256(path) != known["sha256"]:
            raise CorruptArtifact(f"{path} has changed since it was written")
    return manifest


def stored_outputs(home: Path, stage: str) -> list[StoredOutput]:
    """The outputs of a stage in the store, newest first. Outputs with a damaged manifest are left out."""
    found = []
    for path in (home / "store" / stage).glob(f"[!.]*/{MANIFEST}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            manifest = json.loads(path.read_text())
            inputs = dict(manifest["ingredients"]["inputs"])
            output = StoredOutput(
                path.parent.name, path.parent, manifest["digest"], inputs, manifest["made_at"]
            )
            found.append(output)
    return sorted(found, key=lambda output: output.created_at, reverse=True)


def is_whole(folder: Path) -> bool:
    try:
        return verify(folder) is not None
    except CorruptArtifact:
        return False


def new_manifest(folder: Path, ingredients: dict[str, Any], rows: int, seconds: float) -> dict[str, Any]:
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {name: known["sha256"] for name, known in files.items() if not name.startswith("logs/")}
    return {
        "schema": SCHEMA_VERSION,
        "rows": rows,
        "bytes": sum(known["bytes"] for known in files.values()),
        "digest": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "files": files,
        "ingredients": ingredients,
        "libraries": {name: version(name) for name in LIBRARIES},
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": seconds,
    }


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    for path in folder.rglob("*"):
        sync(path)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    sync(folder / MANIFEST)
    sync(folder)


def publish(partial: Path, final: Path) -> None:
    """Rename the built folder to its final name. An existing output is replaced only if it is damaged."""
    while True:
        try:
            if verify(final) is not None:
                return
        except CorruptArtifact:
            _set_aside(final, partial.with_name(f"{partial.name}-damaged"))
        try:
            partial.rename(final)
        except OSError as error:  # another run has just published this output
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            sync(final.parent)
            return


def _set_aside(damaged: Path, aside: Path) -> None:
    with suppress(FileNotFoundError):  # another run has moved it
        damaged.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def check_home(home: Path) -> None:
    """Create the home folder, and remove the unfinished outputs that dead runs left in it.

    Raises:
        InputError: the home cannot be written, or is on a file system without kernel locks.
    """
    try:
        (home / "store").mkdir(parents=True, exist_ok=True)
        with lock(home / "store" / ".probe"):
            pass
    except OSError as error:
        if is_out_of_space(error):
            raise
        raise _unusable(home, f"written or locked ({error.strerror})") from None
    sweep(home / "store")


def check_writable(home: Path) -> None:
    """Check that the home, or the folder in which it would be created, is writable. Creates nothing.

    Raises:
        InputError: the folder is not writable.
    """
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir():
        raise _unusable(home, f"written ({os.strerror(errno.ENOTDIR)})")
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unusable(home, f"written ({os.strerror(errno.EACCES)})")


def _unusable(home: Path, what: str) -> InputError:
    return InputError(f"the home folder {home} cannot be {what}: set REPARTEE_HOME to another folder")
