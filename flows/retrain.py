"""Retrain: a raw corpus in, a registered chat model out, or the reason why not.

    (start >) download > parse > clean > vocabulary > export > train > evaluate > gate > register

Here:      repartee run --recipe small
Deployed:  deployments/prefect.yaml, entrypoint flows/retrain.py:retrain

This file says what runs, in which order, on which inputs. How is said in tasks/.
"""

import flows  # noqa: F401  # its environment comes before Prefect, which loads this file as a script

# isort: split
from prefect import flow
from prefect.client.schemas.objects import State

from flows.config import RetrainConfig
from flows.lifecycle.context import Lineage, open_lineage, reach, run_name
from flows.lifecycle.dead_runs import reconcile
from flows.lifecycle.events import tell_rejection
from flows.lifecycle.graph import retrain_chain, source_of, takes_vocabulary, training
from flows.lifecycle.locks import Busy, my_turn, stay_alive
from flows.lifecycle.outcome import Outcome
from flows.lifecycle.parameters import Changes, CorpusName, Minutes, Promote, Recipe, to_config
from flows.lifecycle.publish import (
    conclude,
    end_is_recorded,
    interrupted,
    skipped,
    trained_not_registered,
    unchanged,
)
from flows.lifecycle.webhook import notice
from models.errors import TrackingUnavailable
from tasks.clean import clean
from tasks.download import download
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.gate import gate
from tasks.parse import parse
from tasks.plan import plan
from tasks.register import register
from tasks.start import start
from tasks.train import train
from tasks.vocabulary import vocabulary


@flow(
    name="retrain",
    flow_run_name=run_name,
    log_prints=False,
    on_completion=[notice, end_is_recorded],
    on_failure=[tell_rejection, notice, end_is_recorded],
    on_crashed=[notice, end_is_recorded],
)
def retrain(
    recipe: Recipe = "small",
    corpus: CorpusName = None,
    minutes: Minutes = None,
    promote: Promote = "auto",
    changes: Changes | None = None,
) -> State[Outcome]:
    """Ends as Completed; the message and the summary artifact say what it came to, and give the figures.

    Args:
        recipe: The named configuration that the other values begin as.
        corpus: `cornell`, `sample`, the http(s) address of a zip (without user, password and query: where it
            has one, `env:REPARTEE_CORPUS_NAME`, a variable of the worker that holds it), or a file under
            REPARTEE_HOME. None: the recipe's own.
        minutes: Minutes of training, at most. None: the recipe's own.
        promote: `auto` where it beats the champion, `never` to measure only, `always` in any case.
        changes: Any other value of the recipe (docs/settings.md). None: as the recipe has it.
    """
    config = to_config(recipe, corpus, minutes, promote, changes)
    run = open_lineage(config)
    try:
        with my_turn(run.home, run.name):
            stay_alive(run.home, run.flow_run_id)
            reconcile(run)
            return retrain_in_turn(run, config)
    except Busy as busy:
        return skipped(run, str(busy))
    except KeyboardInterrupt:
        return interrupted()


def retrain_in_turn(run: Lineage, config: RetrainConfig) -> State[Outcome]:
    """The chain itself."""
    steps = plan(retrain_chain(config), config.gate, run.home, run.registry, config.generation)
    if steps.nothing_to_do:
        return unchanged(run, steps)

    source = source_of(config)
    begun = start(config.start, source, run.home) if source else None
    raw = download(config.download, run.home, reach())
    turns = parse(raw, config.parse, run.home)
    cleaned = clean(turns, config.clean, run.home)
    theirs = begun if takes_vocabulary(config) else None
    ids = vocabulary(cleaned, config.vocabulary, run.home, theirs)
    examples = export(cleaned, ids, config.markup, run.home)

    trained = train(ids, examples, training(config), run.home, run.registry, run.params, run.tags, begun)
    report = evaluate(trained, cleaned, examples, config.evaluate, run.home)
    made = [*([begun] if begun else []), raw, turns, cleaned, ids, examples, trained, report]
    try:
        verdict = gate(trained, report, cleaned, config.gate, run.home, run.registry, config.generation)
        registered = register(
            trained,
            report,
            verdict,
            examples,
            cleaned,
            run.registry,
            run.params,
            run.tags,
            config.gate,
            run.home,
        )
    except TrackingUnavailable as outage:
        return trained_not_registered(run, made, config, str(outage))
    return conclude(run, made, registered)
