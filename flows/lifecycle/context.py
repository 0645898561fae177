"""The context of a run: its home, its settings, and the tags that link its model to the run."""

import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.utilities.urls import url_for

from corpus.mix import foreign_source, name_of_mix
from corpus.transfer.guard import Reach
from flows.config import RetrainConfig, flatten
from flows.lifecycle.names import base_name, schedule_of
from flows.lifecycle.outcome import without_outcome
from flows.notation import join_settings
from flows.recipes import changes_of, run_command, trunk_fault
from models.addresses import redact_addresses, redact_corpus
from models.errors import InputError
from models.evaluation.checks.cases import read_cases
from models.files import PROJECT
from models.pretrained import source as pretrained
from models.pretrained.source import FORMS, SCRATCH, TRUNK
from models.registry.reference import open_registry
from models.registry.tags import (
    CHANGES,
    COMMIT,
    CORPUS,
    FLOW_RUN_ID,
    FLOW_RUN_NAME,
    FLOW_RUN_URL,
    HOME,
    LOCATION,
    RECIPE,
    RUN_NAME,
    SCHEDULE,
    SOURCE,
)
from settings import Settings
from tasks.store.artifact import check_home
from tasks.store.run_context import RunContext


def describe_run(config: RetrainConfig, settings: Settings) -> RunContext:
    """The context of a run that only reads: it writes nothing and has no tags.

    Raises:
        InputError: a setting is wrong, or the configuration needs an initial model but names none.
    """
    check_start(config)
    params = flatten({**config.model_dump(mode="json"), "clean": config.cleaning.model_dump(mode="json")})
    return RunContext(
        name=base_name(config),
        home=settings.root,
        registry=open_registry(settings, config.line),
        reach=reach_of(settings),
        settings=config.by_stage(),
        gate=config.gate,
        generation=config.generation,
        params={key: value for key, value in params.items() if value is not None},
        tags={},
        command=run_command(config),
        flow_run_id=None,
        dashboard=settings.dashboard,
        started_s=time.monotonic(),
        location=f"{socket.gethostname()}:{settings.root}",
        home_identity="",
    )


def open_run(config: RetrainConfig, settings: Settings) -> RunContext:
    """The context of a new run. Creates the home, and removes the unfinished outputs of dead runs in it.

    Raises:
        InputError: the home folder cannot be written, a setting is wrong, or this run may not use the corpus
            or the initial model.
    """
    if deployment.id:
        check_deployable(config.download.corpus, config.start.init, settings.root)
        with_absolute_checks(config, settings.root)
    check_home(settings.root)
    run = describe_run(config, settings)
    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    identity = home_identity(run.home)
    tags = {
        RUN_NAME: run.name,
        RECIPE: config.recipe,
        CORPUS: name_of_mix(config.download.corpus),
        SOURCE: config.download.corpus,
        LOCATION: run.location,
        HOME: identity,
        COMMIT: git_commit(),
        CHANGES: join_settings(changes_of(config).items()),
    }
    if flow_run is None:
        return replace(run, tags=tags, home_identity=identity)
    name = without_outcome(flow_run.name)
    tags |= {RUN_NAME: name, FLOW_RUN_ID: str(flow_run.id), FLOW_RUN_NAME: name}
    if schedule := schedule_of(context):
        tags[SCHEDULE] = schedule
    if url := url_of(flow_run, settings):
        tags[FLOW_RUN_URL] = url
    return replace(run, name=name, tags=tags, flow_run_id=str(flow_run.id), home_identity=identity)


def url_of(flow_run: FlowRun, settings: Settings) -> str | None:
    """The address of a run's page in Prefect; None if the server is temporary and ends with the run."""
    return redact_addresses(url_for(flow_run) or "") or None if settings.prefect_url else None


def check_start(config: RetrainConfig) -> None:
    """
    Raises:
        InputError: the configuration takes its network or vocabulary from a model, but names no model, or
            has a setting that does not fit `--init trunk`.
    """
    if config.takes_model and config.start.init == SCRATCH:
        raise InputError(
            f"recipe {config.recipe}: a pretrained network needs a model to start from; with --init, {FORMS}"
        )
    if config.start.init == TRUNK and (fault := trunk_fault(config)):
        raise InputError(fault)


def check_deployable(corpus: str, init: str, home: Path) -> None:
    """
    Raises:
        InputError: the corpus or the initial model is a file outside the home, which no deployed run may
            read.
    """
    if (foreign := foreign_source(corpus, home)) is not None:
        raise InputError(
            f"corpus {redact_corpus(foreign)}: a deployed run reads only named corpora, http(s) addresses, "
            "data sets of the Hugging Face hub (hf:ORG/NAME) and files under REPARTEE_HOME; move the file "
            "there"
        )
    if pretrained.is_foreign(init, home):
        raise InputError(
            f"start.init {init!r}: a deployed run reads no files of this machine except those "
            "under REPARTEE_HOME; move the model there"
        )


def with_absolute_checks(config: RetrainConfig, home: Path) -> RetrainConfig:
    """The configuration of a deployed run, with the absolute path of the user's file of checks.

    Raises:
        InputError: the file cannot be used, or it is outside the home, where no deployed run may read it.
    """
    path = config.own_checks
    if path is None:
        return config
    if not path.resolve().is_relative_to(home.resolve()):
        raise InputError(
            f"evaluate.checks {str(path)!r}: a deployed run reads no files of this machine except those "
            "under REPARTEE_HOME; move the file there"
        )
    read_cases(path)
    evaluate = config.evaluate.model_copy(update={"checks": str(path.resolve())})
    return config.model_copy(update={"evaluate": evaluate})


def home_identity(home: Path) -> str:
    """An identifier of a home, independent of its path and host name. A copied home has a new identifier."""
    path = home / "identity"
    with suppress(FileExistsError), path.open("x") as file:
        file.write(uuid4().hex)
    return f"{path.read_text()}-{home.stat().st_ino}"


def reach_of(settings: Settings) -> Reach:
    """The hosts to which downloads may connect. A deployed run may use only public or listed hosts.

    Raises:
        InputError: the setting that lists further hosts has an invalid entry.
    """
    allowed = tuple(name.strip() for name in settings.download_hosts.split(",") if name.strip())
    reach = Reach(public_only=bool(deployment.id), allowed=allowed)
    reach.check()
    return reach


def git_commit() -> str:
    """The commit of this checkout, with `+` appended if files were modified; "unknown" without a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
