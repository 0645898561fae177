"""Checkpoints: the whole state of a training run as a folder of safetensors and JSON files.

    checkpoints/000000420/{model,optimizer,best}.safetensors, state.json, complete.json

complete.json records the size and the SHA-256 of every other file, and is written last. The folder is written
under a temporary name and then renamed, so a checkpoint is either complete or absent. No pickle is written or
read.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from models.files import sync
from models.partial import PREFIX

log = logging.getLogger(__name__)

COMPLETE = "complete.json"
STATE = "state.json"
SUFFIX = ".safetensors"
TEMPORARY = PREFIX
KEEP = 2  # the newest checkpoint and an older one to fall back to; each also contains the best weights so far


class Checkpoint(NamedTuple):
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path,
    step: int,
    tensors: dict[str, dict[str, Tensor]],
    state: dict[str, Any],
    *,
    key: str,
) -> None:
    """Write the checkpoint `folder`/STEP completely or not at all, then remove all but the two newest.

    `key` identifies the training run; only a run with the same key resumes from this checkpoint.

    Raises:
        OSError: the disk is full (the message says how many bytes a checkpoint takes) or not writable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    partial = folder / f"{TEMPORARY}{os.getpid()}"
    partial.mkdir()
    try:
        _fill(partial, tensors, state, key)
        final = folder / f"{step:09d}"
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
            free = shutil.disk_usage(folder).free
            message = f"the disk is full: a checkpoint takes {needed:,} bytes and {free:,} are free"
            raise OSError(error.errno, message, str(folder)) from None
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # A checkpoint of a later step is damaged or has another key; otherwise training would have resumed there.
    later = [path for path in _steps(folder) if int(path.name) > step]
    for old in [*later, *_steps(folder)[len(later) + KEEP :]]:
        shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], key: str) -> None:
    files = {}
    for name, group in tensors.items():
        whole = {k: value.detach().cpu().contiguous() for k, value in group.items()}
        files[f"{name}{SUFFIX}"] = _write(folder / f"{name}{SUFFIX}", safetensors.torch.save(whole))
    files[STATE] = _write(folder / STATE, json.dumps(state).encode())
    _write(folder / COMPLETE, json.dumps({"key": key, "files": files}).encode())
    sync(folder)


def load_newest(folder: Path, *, key: str) -> Checkpoint | None:
    """The newest complete checkpoint with this key, or None; each skipped checkpoint is logged."""
    for path in _steps(folder):
        try:
            return _load(path, key)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
            log.warning("checkpoint %s is ignored: %s", path, _reason(error))
    return None


def _load(path: Path, key: str) -> Checkpoint:
    complete = json.loads((path / COMPLETE).read_text())
    if complete["key"] != key:
        raise ValueError("it was written with a different configuration or different data")
    content = {name: _read(path, name, *known) for name, known in complete["files"].items()}
    return Checkpoint(
        tensors={
            name.removesuffix(SUFFIX): safetensors.torch.load(data)
            for name, data in content.items()
            if name.endswith(SUFFIX)
        },
        state=json.loads(content[STATE]),
    )


def _read(folder: Path, name: str, size: int, digest: str) -> bytes:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is not a plain file name")
    data = (folder / name).read_bytes()
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{name} has changed since it was written")
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(error.filename).name} is missing"
    return f"{type(error).__name__}: {error}"


def sweep(folder: Path) -> None:
    """Remove the partial checkpoints of killed writers; only the holder of the run's lock may call this."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _steps(folder: Path) -> list[Path]:
    """The folders of all checkpoints, newest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal()), reverse=True)


def _write(path: Path, data: bytes) -> tuple[int, str]:
    """Write the data and sync the file to the disk; returns its size and SHA-256."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data), hashlib.sha256(data).hexdigest()


def put_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically: after a crash, the file has either the new or the old content."""
    partial = path.with_name(f"{TEMPORARY}{path.name}")
    _write(partial, (json.dumps(content, indent=2) + "\n").encode())
    partial.replace(path)
    sync(path.parent)
