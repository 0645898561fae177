"""Prepare: the data half of retrain, for new data without a training.

(start >) download > parse > clean > vocabulary > export
"""

import flows  # noqa: F401  # its environment comes before Prefect, which loads this file as a script

# isort: split
from typing import cast

from prefect import flow

from flows.config import RetrainConfig
from flows.lifecycle.context import Lineage, open_lineage, reach, run_name
from flows.lifecycle.events import tell_new_data, tell_rejection
from flows.lifecycle.graph import source_of, takes_vocabulary
from flows.lifecycle.locks import stay_alive
from flows.lifecycle.parameters import Changes, CorpusName, Recipe, to_config
from flows.lifecycle.publish import end_is_recorded, interrupted, plain
from flows.lifecycle.results import Result, save_result
from flows.lifecycle.webhook import notice
from tasks.clean import clean
from tasks.download import download
from tasks.export import export
from tasks.parse import parse
from tasks.start import start
from tasks.store.artifact import Artifact
from tasks.vocabulary import vocabulary


@flow(
    name="prepare",
    flow_run_name=run_name,
    log_prints=False,
    on_completion=[end_is_recorded],
    on_failure=[tell_rejection, notice, end_is_recorded],
    on_crashed=[notice, end_is_recorded],
)
def prepare(
    recipe: Recipe = "small", corpus: CorpusName = None, changes: Changes | None = None
) -> list[Artifact]:
    """The outputs of the five stages, made or reused; new data is an event, `repartee.data.prepared`.

    Args:
        recipe: The named configuration that the other values begin as.
        corpus: `cornell`, `sample`, the http(s) address of a zip (without user, password and query: where it
            has one, `env:REPARTEE_CORPUS_NAME`, a variable of the worker that holds it), or a file under
            REPARTEE_HOME. None: the recipe's own.
        changes: Any other value of the recipe (docs/settings.md). None: as the recipe has it.
    """
    config = to_config(recipe, corpus, changes=changes)
    run = open_lineage(config)
    stay_alive(run.home, run.flow_run_id)
    try:
        return prepare_stages(run, config)
    except KeyboardInterrupt:
        return cast(list[Artifact], interrupted())


def prepare_stages(run: Lineage, config: RetrainConfig) -> list[Artifact]:
    """The stages themselves."""
    source = source_of(config)
    begun = start(config.start, source, run.home) if source else None
    raw = download(config.download, run.home, reach())
    turns = parse(raw, config.parse, run.home)
    cleaned = clean(turns, config.clean, run.home)
    theirs = begun if takes_vocabulary(config) else None
    ids = vocabulary(cleaned, config.vocabulary, run.home, theirs)
    examples = export(cleaned, ids, config.markup, run.home)
    made = [plain(each) for each in (*([begun] if begun else []), raw, turns, cleaned, ids, examples)]
    save_result(run.home, run.flow_run_id, Result(artifacts=made))
    tell_new_data(run, made)
    return made
