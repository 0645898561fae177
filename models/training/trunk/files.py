"""The files of a trunk: the undecayed checkpoint from which the next night of a model line goes on.

    model/                  the network and its tokenizer, as a model folder
    optimizer.safetensors   the optimizer state, by the name of the parameter
    state.json              how far the training has come
    complete.json           the size and the SHA-256 of each other file, written last

A trunk that is a copy of a champion has only model/ and complete.json.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import InputError
from models.files import put_folder, sha256, sync
from models.partial import PREFIX
from models.record import Record

MODEL, OPTIMIZER, STATE, COMPLETE = "model", "optimizer.safetensors", "state.json", "complete.json"
FOLDER = "trunk"  # in a run folder


class DamagedTrunk(InputError):
    """A file of a trunk is missing or has changed since it was written; the message names the file."""


class TrunkState(Record):
    """How far the training of a trunk has come."""

    nights: int = 0
    """The number of nights that have trained the trunk."""
    steps: int = 0
    """The number of steps since its optimizer began."""
    tokens: int = 0
    """The number of tokens on which all nights together trained the trunk, without padding."""
    epoch: int = 0
    batch_index: int = 0
    """The index of the next batch of this epoch."""
    order: str = ""
    """A digest of all that decides the order of the batches."""


def seal(folder: Path) -> None:
    """Write complete.json, which makes the folder a trunk, and flush all files to the disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != COMPLETE:
            files[path.relative_to(folder).as_posix()] = (path.stat().st_size, sha256(path))
        sync(path)
    (folder / COMPLETE).write_text(json.dumps({"files": files}, indent=2) + "\n")
    sync(folder / COMPLETE)
    sync(folder)


def digest_of(folder: Path) -> str:
    """The digest of a trunk, all of whose files are read.

    Raises:
        DamagedTrunk: a file is missing or has changed.
    """
    complete = folder / COMPLETE
    try:
        text = complete.read_bytes()
        files = dict(json.loads(text)["files"])
        for name, (size, digest) in files.items():
            path = folder / name
            if path.stat().st_size != size or sha256(path) != digest:
                raise DamagedTrunk(f"{path} has changed since it was written")
    except FileNotFoundError as error:
        raise DamagedTrunk(f"{error.filename} is missing") from None
    except OSError as error:
        raise DamagedTrunk(f"{error.filename} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedTrunk(f"{complete} cannot be read") from None
    return hashlib.sha256(text).hexdigest()


def copy(source: Path, final: Path) -> None:
    """Copy a trunk. `final` is then complete; an earlier folder of this name is replaced."""
    with _replacing(final) as partial:
        shutil.copytree(source, partial)


def adopt(model: Path, final: Path) -> None:
    """Make a trunk of a model folder, without optimizer state."""
    with _replacing(final) as partial:
        shutil.copytree(model, partial / MODEL)
        seal(partial)


@contextmanager
def _replacing(final: Path) -> Iterator[Path]:
    """Yield the name of a folder to write, which is renamed to `final` once it is complete."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f"{PREFIX}{final.name}")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    put_folder(partial, final)
