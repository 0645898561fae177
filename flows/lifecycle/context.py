"""The context of a run: where it keeps its files, and what leads from its model back to it."""

import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from coolname.data import config as coolname_lists
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.runtime import flow_run as current_run

from corpus import source as corpora
from corpus.source import name_of
from corpus.transfer.guard import Reach
from flows.config import RetrainConfig
from flows.lifecycle.outcome import without_outcome
from flows.recipes import RECIPES
from models.addresses import redact_corpus
from models.errors import InputError
from models.files import PROJECT
from models.pretrained import source as pretrained
from models.pretrained.source import FORMS, SCRATCH
from models.registry.reference import open_registry
from models.registry.tags import (
    COMMIT,
    CORPUS,
    FLOW_RUN_ID,
    FLOW_RUN_NAME,
    HOME,
    LOCATION,
    RECIPE,
    RUN_NAME,
    SOURCE,
)
from settings import Settings
from tasks.store.artifact import check_home
from tasks.store.run_context import RunContext


def describe_run(config: RetrainConfig, settings: Settings) -> RunContext:
    """The context of a run that only reads: nothing is written, and the run has no tags.

    Raises:
        InputError: a setting is wrong, or the configuration needs a model to start from and names none.
    """
    check_start(config)
    return RunContext(
        name=f"{config.recipe}-{corpus_name(config)}",
        home=settings.root,
        registry=open_registry(settings),
        reach=reach_of(settings),
        settings=config.by_stage(),
        gate=config.gate,
        generation=config.generation,
        params=flatten(config.model_dump(mode="json")),
        tags={},
        flow_run_id=None,
        started_s=time.monotonic(),
        location=f"{socket.gethostname()}:{settings.root}",
        home_identity="",
    )


def open_run(config: RetrainConfig, settings: Settings) -> RunContext:
    """The context of a run that begins: makes the home, and removes what dead runs left unfinished in it.

    Raises:
        InputError: the home folder cannot be written, a setting is wrong, or the corpus or the start is not
            one that this run may use.
    """
    check_sources(config.download.corpus, config.start.init, settings.root)
    check_home(settings.root)
    run = describe_run(config, settings)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    identity = home_identity(run.home)
    tags = {
        RUN_NAME: run.name,
        RECIPE: config.recipe,
        CORPUS: corpus_name(config),
        SOURCE: config.download.corpus,
        LOCATION: run.location,
        HOME: identity,
        COMMIT: git_commit(),
    }
    if flow_run:
        tags |= {FLOW_RUN_ID: str(flow_run.id), FLOW_RUN_NAME: flow_run.name}
    return replace(run, tags=tags, flow_run_id=str(flow_run.id) if flow_run else None, home_identity=identity)


def check_start(config: RetrainConfig) -> None:
    """
    Raises:
        InputError: the configuration takes its network or its vocabulary from a model, and names none.
    """
    takes_model = config.vocabulary.kind == "pretrained" or config.network.family == "pretrained"
    if takes_model and config.start.init == SCRATCH:
        raise InputError(
            f"recipe {config.recipe}: a pretrained network needs a model to start from; --init: {FORMS}"
        )


def check_sources(corpus: str, init: str, home: Path) -> None:
    """
    Raises:
        InputError: the dashboard or a schedule has started this run, and one of the two is a file outside of
            the home.
    """
    if deployment.id and corpora.is_foreign(corpus, home):
        raise InputError(
            f"corpus {redact_corpus(corpus)}: a deployed run reads names, http(s) addresses and "
            "files under REPARTEE_HOME; put it there"
        )
    if deployment.id and pretrained.is_foreign(init, home):
        raise InputError(
            f"start.init {init!r}: a deployed run begins with versions and what "
            "lies under REPARTEE_HOME; put it there"
        )


def home_identity(home: Path) -> str:
    """An identifier of a home that does not depend on its path and host name; a copy has another one."""
    path = home / "identity"
    with suppress(FileExistsError), path.open("x") as file:
        file.write(uuid4().hex)
    return f"{path.read_text()}-{home.stat().st_ino}"


def run_name() -> str:
    """The name of a run in Prefect: the one that somebody gave it, or else its recipe and its corpus."""
    given = current_run.parameters
    config = RECIPES[given["recipe"]]
    return given_name() or f"{config.recipe}-{name_of(given.get('corpus') or config.download.corpus)}"


def evaluation_name() -> str:
    return given_name() or f"evaluate-{current_run.parameters['model']}"


def given_name() -> str | None:
    """The name that somebody gave to the current run, without the outcome of an earlier attempt.

    None if Prefect chose the name, an adjective and an animal of the lists of coolname.
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


def corpus_name(config: RetrainConfig) -> str:
    """A short name of the corpus, for the names of runs: the file name of a path, without its suffix."""
    return name_of(config.download.corpus)


def reach_of(settings: Settings) -> Reach:
    """The hosts to which downloads may connect: only public ones if a form or a schedule started the run.

    Raises:
        InputError: the setting that lists the exceptions is wrong.
    """
    allowed = tuple(name.strip() for name in settings.download_hosts.split(",") if name.strip())
    reach = Reach(public_only=bool(deployment.id), allowed=allowed)
    reach.check()
    return reach


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def git_commit() -> str:
    """The commit of this checkout, with `+` behind it if files differ; "unknown" outside of a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
