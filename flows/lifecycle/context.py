"""Lineage: where a run keeps its things, and what leads from its model back to it."""

import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from coolname.data import config as coolname_lists
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.runtime import flow_run as current_run

from corpus.source import name_of
from corpus.transfer.guard import Reach
from flows.config import RetrainConfig
from flows.lifecycle.outcome import without_outcome
from flows.recipes import RECIPES
from models.files import PROJECT
from models.registry.database import LOCATION_TAG
from models.registry.reference import open_registry
from models.registry.runs import HOME
from models.registry.versions import Registry
from settings import Settings
from tasks.store.artifact import check_home


@dataclass(frozen=True)
class Lineage:
    """What every task of a run shares."""

    name: str
    home: Path
    registry: Registry
    params: dict[str, Any]  # the whole configuration, flat: `train.learning_rate`
    tags: dict[str, str]
    flow_run_id: str | None
    started_s: float
    at: str  # the machine and the home, for people
    identity: str  # of the home: who may say that a run here is dead


def open_lineage(config: RetrainConfig) -> Lineage:
    """
    Raises:
        InputError: the home folder cannot be written.
    """
    here = Settings()
    check_home(here.root)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    name = _name(config)
    at = f"{socket.gethostname()}:{here.root}"
    identity = home_identity(here.root)
    tags = {
        "repartee.run_name": name,
        "repartee.recipe": config.recipe,
        "repartee.corpus": corpus_name(config),
        "repartee.source": config.download.corpus,
        LOCATION_TAG: at,
        HOME: identity,
        "mlflow.source.git.commit": git_commit(),
    }
    if flow_run:
        tags |= {"prefect.flow_run_id": str(flow_run.id), "prefect.flow_run_name": flow_run.name}
    return Lineage(
        name=name,
        home=here.root,
        registry=open_registry(here),
        params=flatten(config.model_dump(mode="json")),
        tags=tags,
        flow_run_id=str(flow_run.id) if flow_run else None,
        started_s=time.monotonic(),
        at=at,
        identity=identity,
    )


def home_identity(home: Path) -> str:
    """Which home this is, under whatever path or host name it is met; a copy of it is another one."""
    path = home / "identity"
    with suppress(FileExistsError), path.open("x") as file:
        file.write(uuid4().hex)
    return f"{path.read_text()}-{home.stat().st_ino}"


def run_name() -> str:
    """What Prefect calls a run: the name that somebody gave it, else its recipe and its corpus."""
    given = current_run.parameters
    config = RECIPES[given["recipe"]]
    return given_name() or f"{config.recipe}-{name_of(given.get('corpus') or config.download.corpus)}"


def evaluation_name() -> str:
    return given_name() or f"evaluate-{current_run.parameters['model']}"


def given_name() -> str | None:
    """The name that the current run came with, without what an earlier end wrote behind it.

    None for Prefect's own, an adjective and an animal of coolname's lists: it says nothing.
    """
    name = current_run.name or ""
    words = name.split("-")
    if len(words) == 2 and words[0] in _coolname_words("adj_any") and words[1] in _coolname_words("subj"):
        return None
    return without_outcome(name) or None


def _coolname_words(key: str) -> set[str]:
    entry = cast(dict[str, dict[str, list[str]]], coolname_lists)[key]
    if "words" in entry:
        return set(entry["words"])
    return {word for part in entry["lists"] for word in _coolname_words(part)}


def _name(config: RetrainConfig) -> str:
    return f"{config.recipe}-{corpus_name(config)}"


def corpus_name(config: RetrainConfig) -> str:
    """Short, for the names of runs: `cornell-standin` of a path that ends so."""
    return name_of(config.download.corpus)


def reach() -> Reach:
    """To whom this run's downloads may connect: one that a form or a schedule began, not to what is inside.

    Raises:
        InputError: the setting that lists the exceptions is wrong.
    """
    allowed = tuple(name.strip() for name in Settings().download_hosts.split(",") if name.strip())
    found = Reach(public_only=bool(deployment.id), allowed=allowed)
    found.check()
    return found


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def git_commit() -> str:
    """Of this checkout, with `+` behind it where files differ; "unknown" outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
