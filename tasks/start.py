"""Start: the model that a training begins with, a folder in the store, whatever it came as."""

import hashlib
import json
import logging
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from prefect import task
from pydantic import AfterValidator, Field

from corpus.transfer.addresses import shown
from models.config import Config
from models.errors import InputError
from models.files import path_of, sha256
from models.pretrained import hub
from models.registry.reference import registered_model
from models.registry.versions import Registry
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

log = logging.getLogger(__name__)

SCRATCH = "scratch"
SUFFIXES = (".safetensors", ".json", ".jinja")
LEFT = ("manifest.json", "generation_config.json")  # of a registered version: no part of what is learnt
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FORMS = "give champion, challenger, a version number, a model folder, a .gguf file or a hub's ORG/NAME"


def _no_address(init: str) -> str:
    if "://" in init:  # which could hold a password, and would be stored
        raise InputError(f"init {shown(init)}: an address is no start; {FORMS}")
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
    place: str
    identity: str


def resolve(init: str, registry: Registry, home: Path) -> Source:
    """What `init` means.

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
    return _folder(registered_model(init, registry, home / "registry").folder)


def is_foreign(init: str, home: Path) -> bool:
    """Whether it is a file or folder of this machine that lies outside of `home`."""
    path = path_of(init)
    is_path = path.is_absolute() or path.exists() or init.startswith((".", "~"))
    return is_path and not path.resolve().is_relative_to(home.resolve())


def _folder(folder: Path) -> Source:
    from models.training.initial_weights import weight_files  # torch takes seconds to import

    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"init {folder} is no model folder: it has no {name}; {FORMS}")
    weight_files(folder)
    content = {path.name: sha256(path) for path in _taken(folder)}
    told = json.dumps(content, sort_keys=True).encode()
    return Source("folder", str(folder), f"folder:{hashlib.sha256(told).hexdigest()}")


def _taken(folder: Path) -> list[Path]:
    """The files that make the model: weights, JSON and the chat template; none that could hold code."""
    found = sorted(folder.iterdir())
    return [path for path in found if path.suffix in SUFFIXES and path.name not in LEFT and path.is_file()]


def take_start(out: Path, config: StartConfig, *, source: Source) -> int:
    """A model folder; logs/source.json says where it lay; returns the number of files."""
    if source.kind == "gguf":
        convert(Path(source.place), out)
    elif source.kind == "hub":
        name, _, commit = source.place.partition("@")
        log.info("start: downloads %s from the hub, commit %s", name, commit)
        hub.download(name, commit, out)
        shutil.rmtree(out / ".cache", ignore_errors=True)
        (out / "generation_config.json").unlink(missing_ok=True)
        _folder(out)
    else:
        for path in _taken(Path(source.place)):
            shutil.copyfile(path, out / path.name)
    made = len(list(out.iterdir()))
    (out / "logs").mkdir()
    (out / "logs" / "source.json").write_text(json.dumps(vars(source), indent=2) + "\n")
    return made


def convert(path: Path, out: Path) -> None:
    """A GGUF file -> config.json, model.safetensors, tokenizer.json and its chat template, in float32.

    Raises:
        InputError: transformers cannot read it, or what it needs for that is not installed.
    """
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"init {path}: a GGUF file needs {' and '.join(missing)}: "
            "pip install -c constraints.txt -e '.[finetune]'"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from models.network.networks import quiet

    where = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            AutoTokenizer.from_pretrained(path.parent, **where).save_pretrained(out)
            read = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **where)
            # Transformers takes it for quantised still, and such a model is neither trained nor saved.
            config = type(read.config).from_dict(
                {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
            )
            model = type(read)(config)
            model.load_state_dict(read.state_dict())
            model.save_pretrained(out)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"init {path} cannot be converted ({reason}); give a model folder") from error
    (out / "generation_config.json").unlink(missing_ok=True)


STAGE = Stage("start", take_start)


@task(task_run_name="start")
def start(config: StartConfig, source: Source, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {}, identity=source.identity, context={"source": source}))
