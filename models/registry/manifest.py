"""The manifest of a registered model (the SHA-256 of each file), and the rules for which files are allowed.

The files that make a folder an MLflow model may be added to a version later. They become part of the version
once the manifest lists them and the version's digest tag equals the SHA-256 of this manifest. Until then,
these files are ignored, so the version is valid at all times.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from models.errors import InputError
from models.files import sha256

MANIFEST = "manifest.json"
ALLOWED_SUFFIXES = (".safetensors", ".json", ".md")
ALLOWED_NAMES = ("chat_template.jinja",)

MLMODEL = "MLmodel"
REQUIREMENTS, PYTHON_ENV = "requirements.txt", "python_env.yaml"
EXAMPLE, TOKENIZER = "components/input_example.json", "components/tokenizer"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
FOR_MLFLOW = frozenset(
    (MLMODEL, REQUIREMENTS, PYTHON_ENV, EXAMPLE, *(f"{TOKENIZER}/{name}" for name in TOKENIZER_FILES))
)
"""The files that make a model folder an MLflow model; no Repartee command reads them."""
LEFT_BY_MLFLOW = "registered_model_meta"
"""When MLflow opens a version, it writes this file, with the model's name and version, into the folder."""


def allowed(folder: Path) -> dict[str, Path]:
    """The files of a model folder, by their path within the folder.

    Raises:
        InputError: a file could contain code or is a symbolic link, or there are no weights.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name, path in files.items():
        is_allowed = path.suffix in ALLOWED_SUFFIXES or path.name in ALLOWED_NAMES or name in FOR_MLFLOW
        if not is_allowed:
            raise InputError(
                f"{path} is not a safetensors, JSON or Markdown file ({name}) and cannot be registered; "
                "remove it from the model folder"
            )
    if not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"{folder} contains no .safetensors file; give a model folder")
    return files


def _files(folder: Path) -> list[Path]:
    """All files in a folder, except its manifest and the file that MLflow writes there.

    Symbolic links are refused, because they may point outside the folder.
    """
    paths = sorted(folder.rglob("*"))
    if link := next((path for path in paths if path.is_symlink()), None):
        raise InputError(f"{link} is a symbolic link; replace it with a regular file")
    others = (folder / MANIFEST, folder / LEFT_BY_MLFLOW)
    return [path for path in paths if path.is_file() and path not in others]


def hashes(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: sha256(path) for name, path in files.items()}


def without_mlflow(files: Mapping[str, str]) -> dict[str, str]:
    """All files except those for MLflow, whose content depends on which MLflow version is installed."""
    return {name: digest for name, digest in files.items() if name not in FOR_MLFLOW}


def manifest_of(files: Mapping[str, str]) -> str:
    """The content of manifest.json for files with these hashes."""
    return json.dumps({"files": dict(files)}, indent=1, sort_keys=True) + "\n"


def digest_of(files: Mapping[str, str]) -> str:
    """The SHA-256 of the manifest for files with these hashes."""
    return hashlib.sha256(manifest_of(files).encode()).hexdigest()


def check(folder: Path, digest: str, name: str) -> None:
    """Verify the files of a model folder against its manifest, and the manifest against `digest`.

    Raises:
        InputError: a file is missing, new or changed.
    """
    damaged = _first_damaged(folder, digest)
    if damaged is not None:
        state = "differs from the registered file" if (folder / damaged).exists() else "is missing"
        raise InputError(
            f"{folder / damaged} of {name} {state}; delete {folder} if it is a copy, "
            "otherwise put another version into service (`repartee promote`) or train one (`repartee run`)"
        )


def _first_damaged(folder: Path, digest: str) -> str | None:
    """The name of the first file that differs from the registered file, or None if no file differs."""
    manifest = folder / MANIFEST
    text = manifest.read_bytes() if manifest.is_file() else b""
    present = hashes({path.relative_to(folder).as_posix(): path for path in _files(folder)})
    if hashlib.sha256(text).hexdigest() != digest:
        # If `digest` belongs to a manifest without the files for MLflow, an upgrade is adding these files.
        is_extended = MLMODEL in present and digest_of(without_mlflow(present)) == digest
        return None if is_extended else MANIFEST
    expected: dict[str, str] = json.loads(text)["files"]
    if MLMODEL not in expected:  # an upgrade is adding the files for MLflow
        present = without_mlflow(present)
    names = sorted(expected.keys() | present.keys())
    return next((name for name in names if expected.get(name) != present.get(name)), None)
