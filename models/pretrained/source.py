"""Source: the model that a training begins with, whatever it comes as, becomes a model folder."""

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
SUFFIXES = (".safetensors", ".json", ".jinja")
LEFT = ("manifest.json", "generation_config.json")  # of a registered version: no part of what is learnt
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FORMS = "give champion, challenger, a version number, a model folder, a .gguf file or a hub's ORG/NAME"


def _no_address(init: str) -> str:
    if "://" in init:  # which could hold a password, and would be stored
        raise InputError(f"init {redact_corpus(init)}: an address is no start; {FORMS}")
    return init


class StartConfig(Config):
    init: Annotated[str, AfterValidator(_no_address)] = Field(
        default=SCRATCH, json_schema_extra={"pattern": "^(?!.*://)"}
    )
    """Where the weights begin: `scratch`, a version (`champion`, 3), a model folder, a .gguf file, or
    ORG/NAME of the Hugging Face hub."""


@dataclass(frozen=True)
class Source:
    """Where a start lies, and what stands for its content."""

    kind: Literal["folder", "gguf", "hub"]
    location: str
    identity: str


def find_source(init: str, registered: Callable[[str], Path]) -> Source:
    """What `init` means; `registered` gives the folder of a registered version.

    Raises:
        InputError: there is no such version, folder or file, or it holds no safetensors.
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
    """Whether it is a file or folder of this machine that lies outside of `home`."""
    path = path_of(init)
    is_path = path.is_absolute() or path.exists() or init.startswith((".", "~"))
    return is_path and not path.resolve().is_relative_to(home.resolve())


def _folder(folder: Path) -> Source:
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"init {folder} is no model folder: it has no {name}; {FORMS}")
    weight_files(folder)
    return Source("folder", str(folder), folder_identity(folder))


def folder_identity(folder: Path) -> str:
    """Equal for folders that hold the same model."""
    content = {path.name: sha256(path) for path in _taken(folder)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"folder:{digest}"


def _taken(folder: Path) -> list[Path]:
    """The files that make the model: weights, JSON and the chat template; none that could hold code."""
    found = sorted(folder.iterdir())
    return [path for path in found if path.suffix in SUFFIXES and path.name not in LEFT and path.is_file()]


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder; no pickle is ever read.

    Raises:
        InputError: it has none.
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
    """A model folder; logs/source.json says where it lay; returns the number of files."""
    if source.kind == "gguf":
        convert(Path(source.location), out)
    elif source.kind == "hub":
        name, _, commit = source.location.partition("@")
        log.info("start: downloads %s from the hub, commit %s", name, commit)
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
