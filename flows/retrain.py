"""Retrain: turn a raw corpus into a registered chat model, or say why the model was not registered.

    (start >) download > parse > clean > contract > vocabulary > export > train > evaluate > gate > register

Locally:   repartee run --recipe small
Deployed:  deployments/prefect.yaml, entrypoint flows/retrain.py:retrain

This file defines what runs, and in which order. Each file in tasks/ defines one stage and what it reads.
"""

import flows  # noqa: F401  # sets the environment before Prefect is imported

# isort: split
from prefect import flow
from prefect.client.schemas.objects import State

from flows.config import RetrainConfig
from flows.lifecycle.context import open_run
from flows.lifecycle.dead_runs import reconcile
from flows.lifecycle.events import send_rejection
from flows.lifecycle.graph import run_chain
from flows.lifecycle.locks import Busy, turn_of_line
from flows.lifecycle.names import begin_run
from flows.lifecycle.outcome import Outcome
from flows.lifecycle.parameters import (
    CorpusName,
    Minutes,
    OlderChanges,
    Promote,
    Recipe,
    Seed,
    SettingsText,
    to_config,
)
from flows.lifecycle.publish import (
    conclude,
    end_is_recorded,
    interrupted,
    out_of_time,
    refused,
    skipped,
    tag_run,
    trained_not_registered,
    unchanged,
)
from flows.lifecycle.time_limit import OutOfTime, time_limit
from flows.lifecycle.webhook import notice
from flows.prepare import DATA, run_data_stages
from models.errors import DataRejected, InputError, TrackingUnavailable
from settings import Settings
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.plan import plan
from tasks.register import register
from tasks.store.run_context import RunContext
from tasks.train import train
from tasks.trunk.night import begin_night, end_night

MODEL = (
    train,  # the trained model
    evaluate,  # a report on the model: scores on the test split, and sample replies
)
CHAIN = (*DATA, *MODEL)  # DATA: from the raw corpus to examples of token ids


@flow(
    name="retrain",
    flow_run_name=begin_run,
    log_prints=False,
    on_completion=[notice, end_is_recorded],
    on_failure=[send_rejection, notice, end_is_recorded],
    on_crashed=[notice, end_is_recorded],
)
def retrain(
    recipe: Recipe = "small",
    corpus: CorpusName = None,
    minutes: Minutes = None,
    seed: Seed = None,
    promote: Promote = "auto",
    settings: SettingsText = None,
    changes: OlderChanges = None,
) -> State[Outcome]:
    """Train a model, and promote it if the gate accepts it. The final state and an artifact show the outcome.

    Args:
        recipe: The named configuration to start from; docs/settings.md lists what each recipe sets.
        corpus: The conversations to train on: `cornell`, `sample`, the http(s) address of a file,
            `hf:ORG/NAME` on the Hugging Face hub, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, or a file or folder
            under REPARTEE_HOME. If the address contains a login or a query string, put it into a variable of
            the worker such as REPARTEE_CORPUS_NAME (only NAME is free), and enter `env:REPARTEE_CORPUS_NAME`.
            Several sources with weights: `cornell + sample=0.5`. Empty: the recipe's corpus.
        minutes: The time limit for training, in minutes. Empty: the recipe's limit.
        seed: The random seed of the weights, the order of the batches and dropout. Empty: the recipe's seed.
        promote: When the new model becomes the champion (the model in service). `auto`: if it is better than
            the current champion. `never`: not even if it is better. `always`: even if it is worse.
        settings: Other settings, in the notation of `repartee run --set`, separated by commas or line breaks:
            `train.learning_rate=0.01, start.init=trunk` (docs/settings.md). Empty: the recipe's settings.
        changes: Settings stored by an older version of the form.
    """
    try:
        config = to_config(recipe, corpus, minutes, seed, promote, settings, changes)
        run = open_run(config, Settings())
    except InputError as error:
        return refused(error)
    try:
        tag_run(run)
        with time_limit(config.max_hours), turn_of_line(run.home, run.registry.model, run.name):
            reconcile(run)
            return retrain_in_turn(run, config)
    except DataRejected as rejection:
        return refused(rejection)
    except Busy as busy:
        return skipped(run, str(busy))
    except OutOfTime:
        return out_of_time(config)
    except KeyboardInterrupt:
        return interrupted()


def retrain_in_turn(run: RunContext, config: RetrainConfig) -> State[Outcome]:
    """Plan and run the chain; then let the gate decide whether the new model is promoted."""
    begin_night(run)
    planned = plan(run, CHAIN)
    if planned.is_judged:
        end_night(run, planned.outputs["train"])
        return unchanged(run, planned)

    outputs = run_chain(run, MODEL, run_data_stages(run))
    trained, report = outputs["train"], outputs["evaluate"]
    try:
        verdict = gate(run, trained, report, outputs["clean"])
        registered = register(
            run,
            verdict,
            train=trained,
            evaluate=report,
            parse=outputs["parse"],
            clean=outputs["clean"],
            export=outputs["export"],
        )
    except TrackingUnavailable as outage:
        return trained_not_registered(run, outputs.values(), config, str(outage))
    end_night(run, trained)
    return conclude(run, outputs.values(), registered)
