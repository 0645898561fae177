"""Here: one run on this machine, now, with a server of its own if none is configured."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from console import show_progress
from settings import Settings, quiet_environment

quiet_environment()  # before a library that reads it is imported

from deployments.server import connected, start_server  # noqa: E402
from flows.chain import prepare_chain, retrain_chain  # noqa: E402
from flows.config import RetrainConfig  # noqa: E402
from flows.ending import unchanged_outcome  # noqa: E402
from flows.lineage import open_lineage  # noqa: E402
from flows.outcome import Outcome, stage_row  # noqa: E402
from flows.prepare import prepare  # noqa: E402
from flows.retrain import retrain  # noqa: E402
from tasks import clean, download, evaluate, parse  # noqa: E402
from tasks.artifacts import check_home  # noqa: E402
from tasks.plan import Step, plan_chain, plan_run  # noqa: E402

Result = TypeVar("Result")


def retrain_here(config: RetrainConfig) -> Outcome:
    """The whole chain; where there is nothing to do, the answer comes without a server."""
    show_progress()
    run = open_lineage(config)
    chain = retrain_chain(config)
    steps, kept = plan_chain(chain, run.home)
    if Settings().prefect_api_url is None and len(kept) == len(chain):
        plan = plan_run(chain, config.gate, run.home, run.registry)
        if plan.nothing_to_do:
            return unchanged_outcome(run, plan)
    outcome: Outcome = _with_server(run.home, lambda: retrain(config))
    return outcome


def prepare_here(config: RetrainConfig) -> list[dict[str, Any]]:
    show_progress()
    home = open_lineage(config).home
    prepare_chain(config)  # a corpus that is not there is told before anything is started
    return [stage_row(artifact) for artifact in _with_server(home, lambda: prepare(config))]


def plan_here(config: RetrainConfig) -> list[Step]:
    run = open_lineage(config)
    return plan_run(retrain_chain(config), config.gate, run.home, run.registry).steps
