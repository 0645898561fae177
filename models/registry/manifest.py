"""The manifest of a registered model: the SHA-256 of each file, and which files are allowed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from models.errors import InputError
from models.files import sha256

MANIFEST = "manifest.json"
ALLOWED_SUFFIXES = (".safetensors", ".json", ".md")
ALLOWED_NAMES = ("chat_template.jinja",)


def allowed(folder: Path) -> dict[str, Path]:
    """The files of a model folder by name.

    Raises:
        InputError: a file could hold code, is a link, or there are no weights.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, path in files.items():
        if path.suffix not in ALLOWED_SUFFIXES and path.name not in ALLOWED_NAMES:
            raise InputError(
                f"{path} is no safetensors, JSON or Markdown file ({name}); "
                "a model is registered without it: remove it"
            )
    if not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"{folder} holds no .safetensors file; is it a model folder?")
    return files


def _files(folder: Path) -> list[Path]:
    """Every file under a folder but its manifest; links are refused, since they may lead out of it."""
    paths = sorted(folder.rglob("*"))
    if link := next((path for path in paths if path.is_symlink()), None):
        raise InputError(f"{link} is a link; a model folder holds plain files only")
    return [path for path in paths if path.is_file() and path != folder / MANIFEST]


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.items()}


def check(folder: Path, digest: str, name: str) -> None:
    """Verify the files of a model folder against its manifest, and that against `digest`.

    Raises:
        InputError: a file is missing, new or changed.
    """
    manifest = folder / MANIFEST
    text = manifest.read_bytes() if manifest.is_file() else b""
    damaged = None if hashlib.sha256(text).hexdigest() == digest else MANIFEST
    if damaged is None:
        expected: dict[str, str] = json.loads(text)["files"]
        present = hashes({p.relative_to(folder).as_posix(): p for p in _files(folder)})
        names = sorted(expected.keys() | present.keys())
        damaged = next((n for n in names if expected.get(n) != present.get(n)), None)
    if damaged is not None:
        state = "is not as it was registered" if (folder / damaged).exists() else "is missing"
        raise InputError(
            f"{folder / damaged} of {name} {state}; delete {folder} if it is a copy, "
            "else put another version into service (`repartee promote`) or make a new one (`repartee run`)"
        )
