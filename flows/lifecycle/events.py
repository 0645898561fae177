"""Events: entries in Prefect's event feed that automations can wait for."""

import logging
from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.flows import Flow

from corpus.mix import name_of_mix
from flows.notation import split_settings
from flows.recipes import RECIPES
from models.addresses import redact_addresses
from models.errors import DataRejected
from models.registry.tags import CHANGES, CORPUS, RECIPE, SOURCE
from tasks.prefect_api.reporting import report
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext

log = logging.getLogger(__name__)

NEW_DATA = "repartee.data.prepared"
PROMOTED = "repartee.champion.promoted"
REJECTED = "repartee.data.rejected"


def send_new_data(run: RunContext, outputs: Sequence[Artifact]) -> None:
    """If this run has built new examples (the output of the last data stage), send an event that can trigger
    training."""
    if outputs[-1].status == "ran":
        log.info("new data: if the services are running, they now start a training run on them (`train`)")
        report(
            emit_event,
            NEW_DATA,
            resource={"prefect.resource.id": f"repartee.corpus.{run.tags[CORPUS]}"},
            payload={
                "recipe": run.tags[RECIPE],
                "corpus": run.tags[SOURCE],
                "settings": _without_corpus(run.tags[CHANGES]),
                "examples": outputs[-1].rows,
            },
        )


def _without_corpus(settings: str) -> str:
    """These settings without the corpus, which has its own field in the event and in the form."""
    return ", ".join(text for text in split_settings(settings) if not text.startswith("download.corpus="))


def send_promotion(run: RunContext, version: int, reason: str) -> None:
    report(
        emit_event,
        PROMOTED,
        resource={"prefect.resource.id": f"repartee.model.{run.registry.model}"},
        payload={"version": version, "reason": reason},
    )


def send_rejection(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook that runs when a flow fails, and sends an event if the corpus was rejected."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, DataRejected):
        recipe = flow_run.parameters["recipe"]
        corpus = redact_addresses(flow_run.parameters.get("corpus") or "") or None
        name = name_of_mix(corpus or RECIPES[recipe].download.corpus)
        run = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}
        emit_event(
            REJECTED,
            resource={"prefect.resource.id": f"repartee.corpus.{name}"},
            related=[run],
            payload={
                "recipe": recipe,
                "corpus": corpus,
                "reason": str(error),
            },
        )
