"""Here: one run on this machine, now, with a Prefect server of its own if none is configured."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
from prefect.settings import PREFECT_API_URL, temporary_settings

from console import show_progress
from deployments.server import temporary_server
from flows.chain import prepare_chain, retrain_chain
from flows.config import RetrainConfig
from flows.ending import unchanged_outcome
from flows.lineage import open_lineage
from flows.outcome import Outcome, stage_row
from flows.prepare import prepare
from flows.retrain import retrain
from settings import Settings
from tasks.plan import Step, plan_chain, plan_run

Result = TypeVar("Result")


def retrain_here(config: RetrainConfig) -> Outcome:
    """The whole chain; where there is nothing to do, the answer comes without a server."""
    show_progress()
    run = open_lineage(config)
    chain = retrain_chain(config)
    _, kept = plan_chain(chain, run.home)
    if Settings().prefect_api_url is None and len(kept) == len(chain):
        plan = plan_run(chain, config.gate, run.home, run.registry)
        if plan.nothing_to_do:
            return unchanged_outcome(run, plan)
    return _with_server(run.home, lambda: retrain(config))


def prepare_here(config: RetrainConfig) -> list[dict[str, Any]]:
    """The data half; each stage as the JSON of a run tells it."""
    show_progress()
    home = open_lineage(config).home
    prepare_chain(config)  # a corpus that is not there is told before anything is started
    return [stage_row(artifact) for artifact in _with_server(home, lambda: prepare(config))]


def plan_here(config: RetrainConfig) -> list[Step]:
    run = open_lineage(config)
    return plan_run(retrain_chain(config), config.gate, run.home, run.registry).steps


def _with_server(home: Path, flow: Callable[[], Result]) -> Result:
    if Settings().prefect_api_url is not None:
        return flow()
    with temporary_server(home) as server, temporary_settings({PREFECT_API_URL: server.wait()}):
        return flow()
