"""Checkpoint: a training's whole state as a folder of safetensors and JSON, complete or absent.

    checkpoints/000000420/{model,optimizer,random}.safetensors, state.json, complete.json

complete.json holds size and SHA-256 of the others and is written last, under a temporary name that
becomes the folder's own. No pickle is written or read.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

COMPLETE = "complete.json"
KEEP = 2


def save(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write `folder`/STEP whole, then let go of all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".tmp-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name, group in tensors.items():
            whole = {key: value.detach().cpu().contiguous() for key, value in group.items()}
            save_file(whole, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps(state))
        known = {path.name: [path.stat().st_size, _sha256(path)] for path in sorted(partial.iterdir())}
        (partial / COMPLETE).write_text(json.dumps(known))
        for path in partial.iterdir():
            sync(path)
        final = folder / f"{step:09d}"
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in _steps(folder)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)


def load_newest(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest whole checkpoint; a torn one is passed over by name."""
    for path in _steps(folder):
        try:
            known = json.loads((path / COMPLETE).read_text())
            for name, (size, digest) in known.items():
                if (path / name).stat().st_size != size or _sha256(path / name) != digest:
                    raise ValueError(f"{name} is not as it was written")
            tensors = {file.stem: load_file(file) for file in path.glob("*.safetensors")}
            return tensors, json.loads((path / "state.json").read_text())
        except (OSError, ValueError, SafetensorError) as error:
            log.warning("checkpoint %s is passed over: %s", path, error)
    return None


def _steps(folder: Path) -> list[Path]:
    """The checkpoints there are, newest first."""
    return sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), reverse=True)


def random_state() -> dict[str, Tensor]:
    """Of torch, on the CPU and on each GPU."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in state:
            torch.cuda.set_rng_state(state[f"cuda{i}"], i)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
