"""Finds the source of the initial model of a training run, and writes the initial model as a model folder."""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from models.addresses import redact_corpus
from models.config import Config
from models.errors import InputError
from models.files import path_of, sha256
from models.pretrained import hub
from models.pretrained.gguf import convert

log = logging.getLogger(__name__)

SCRATCH = "scratch"
TRUNK = "trunk"
SUFFIXES = (".safetensors", ".json", ".jinja")
LEFT = ("manifest.json", "generation_config.json")  # files of a version that do not affect training
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FORMS = (
    "give champion, challenger, a version number, a model folder, a .gguf file or ORG/NAME on "
    "the Hugging Face hub"
)


def _no_address(init: str) -> str:
    if "://" in init:  # an address could contain a password, and would be stored
        raise InputError(f"init {redact_corpus(init)}: an address cannot name the initial model; {FORMS}")
    return init


class StartConfig(Config):
    init: Annotated[str, AfterValidator(_no_address)] = Field(
        default=SCRATCH, json_schema_extra={"pattern": "^(?!.*://)"}
    )
    """The model whose weights training starts from: a version (`champion`, 3), a model folder, a .gguf file,
    or ORG/NAME on the Hugging Face hub. `scratch`: training starts from random weights. `trunk`: training
    goes on from the undecayed checkpoint that the last run with this setting left (docs/schedules.md)."""


@dataclass(frozen=True)
class Source:
    """The location of an initial model, and an identity that depends only on the model's content."""

    kind: Literal["folder", "gguf", "hub"]
    location: str
    identity: str


def find_source(init: str, registered: Callable[[str], Path]) -> Source:
    """Find the source that `init` names; `registered` returns the folder of a registered version.

    Raises:
        InputError: there is no such version, folder or file, or the folder has no safetensors file.
    """
    path = path_of(init)
    if path.suffix == ".gguf" and path.is_file():
        return Source("gguf", str(path.resolve()), f"gguf:{sha256(path)}")
    if path.is_dir():
        return _folder(path.resolve())
    if HUB_ID.fullmatch(init):
        commit = hub.commit_of(init)
        return Source("hub", f"{init}@{commit}", f"hub:{init}@{commit}")
    if "/" in init or path.suffix == ".gguf":
        raise InputError(f"init {init!r}: there is no such folder or file; {FORMS}")
    return _folder(registered(init))


def is_foreign(init: str, home: Path) -> bool:
    """Whether `init` names a file or folder on this machine that is outside `home`."""
    if init in (SCRATCH, TRUNK):  # also if there is a folder of this name
        return False
    path = path_of(init)
    is_path = path.is_absolute() or path.exists() or init.startswith((".", "~"))
    return is_path and not path.resolve().is_relative_to(home.resolve())


def _folder(folder: Path) -> Source:
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"init {folder} is not a model folder: it has no {name}; {FORMS}")
    weight_files(folder)
    return Source("folder", str(folder), folder_identity(folder))


def folder_identity(folder: Path) -> str:
    """Return a digest that is the same for two folders if their models have the same files."""
    content = {path.name: sha256(path) for path in _taken(folder)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"folder:{digest}"


def _taken(folder: Path) -> list[Path]:
    """A model's files: weights, JSON and the chat template. Files that could contain code are left out."""
    found = sorted(folder.iterdir())
    return [path for path in found if path.suffix in SUFFIXES and path.name not in LEFT and path.is_file()]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder. A pickle is never read.

    Raises:
        InputError: the folder has no safetensors file.
    """
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    reason = (
        f"its weights are a pickle ({pickles[0]}), which is never read" if pickles else "it has no weights"
    )
    raise InputError(f"{folder}: {reason}; give a folder with model.safetensors")


def take_start(out: Path, config: StartConfig, *, source: Source) -> int:
    """Write the initial model as a model folder (origin: logs/source.json); return the number of files."""
    if source.kind == "gguf":
        convert(Path(source.location), out)
    elif source.kind == "hub":
        name, _, commit = source.location.partition("@")
        log.info("start: downloading %s, commit %s, from the hub", name, commit)
        hub.download(name, commit, out)
        shutil.rmtree(out / ".cache", ignore_errors=True)
        (out / "generation_config.json").unlink(missing_ok=True)
        _folder(out)
    else:
        for path in _taken(Path(source.location)):
            shutil.copyfile(path, out / path.name)
    count = len(list(out.iterdir()))
    (out / "logs").mkdir()
    origin = {"kind": source.kind, "place": source.location, "identity": source.identity}
    (out / "logs" / "source.json").write_text(json.dumps(origin, indent=2) + "\n")
    return count
