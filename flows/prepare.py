"""Prepare: runs only the data stages of `retrain`, for example when there is new data.

Each file in tasks/ says what its stage reads and how it works.
"""

import flows  # noqa: F401  # sets the environment before Prefect is imported

# isort: split
from typing import cast

from prefect import flow

from flows.lifecycle.context import open_run
from flows.lifecycle.events import send_new_data, send_rejection
from flows.lifecycle.graph import run_chain
from flows.lifecycle.names import begin_run
from flows.lifecycle.parameters import CorpusName, OlderChanges, Recipe, SettingsText, to_config
from flows.lifecycle.publish import artifact_of, end_is_recorded, interrupted, refused
from flows.lifecycle.results import Result, save_result
from flows.lifecycle.webhook import notice
from models.errors import DataRejected, InputError
from settings import Settings
from tasks.clean import clean
from tasks.contract import contract
from tasks.download import download
from tasks.export import export
from tasks.parse import parse
from tasks.start import start
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.vocabulary import vocabulary

TURNS = (
    start,  # the initial model; not used if training starts from random weights
    download,  # the raw files of the corpus
    parse,  # turns: who said what, in which conversation
    clean,  # the turns, normalised and split into train, validation and test
)
EXAMPLES = (
    vocabulary,  # the tokenizer
    export,  # examples of token ids, in Parquet
)
DATA = (*TURNS, *EXAMPLES)


@flow(
    name="prepare",
    flow_run_name=begin_run,
    log_prints=False,
    on_completion=[end_is_recorded],
    on_failure=[send_rejection, notice, end_is_recorded],
    on_crashed=[notice, end_is_recorded],
)
def prepare(
    recipe: Recipe = "small",
    corpus: CorpusName = None,
    settings: SettingsText = None,
    changes: OlderChanges = None,
) -> list[Artifact]:
    """Build or reuse the outputs of the data stages; send the event `repartee.data.prepared` for new data.

    Args:
        recipe: The named configuration to start from; docs/settings.md lists what each recipe sets.
        corpus: The conversations to prepare: `cornell`, `sample`, the http(s) address of a file,
            `hf:ORG/NAME` on the Hugging Face hub, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, or a file or folder
            under REPARTEE_HOME. If the address contains a login or a query string, put it into a variable of
            the worker such as REPARTEE_CORPUS_NAME (only NAME is free), and enter `env:REPARTEE_CORPUS_NAME`.
            Several sources with weights: `cornell + sample=0.5`. Empty: the recipe's corpus.
        settings: Other settings, in the notation of `repartee prepare --set`, separated by commas or line
            breaks: `vocabulary.size=4096, clean.split_by=conversation`. The page docs/settings.md lists all
            settings. Empty: the recipe's settings.
        changes: Settings stored by an older version of the form.
    """
    try:
        run = open_run(to_config(recipe, corpus, settings=settings, changes=changes), Settings())
    except InputError as error:
        return cast(list[Artifact], refused(error))
    try:
        return prepare_data(run)
    except DataRejected as rejection:
        return cast(list[Artifact], refused(rejection))
    except KeyboardInterrupt:
        return cast(list[Artifact], interrupted())


def prepare_data(run: RunContext) -> list[Artifact]:
    """Run the data stages, save their outputs, and send an event if there is new data."""
    outputs = [artifact_of(output) for output in run_data_stages(run).values()]
    save_result(run.home, run.flow_run_id, Result(artifacts=outputs))
    send_new_data(run, outputs)
    return outputs


def run_data_stages(run: RunContext) -> dict[str, Artifact]:
    """Run the data stages, and compare the data with those accepted before; return the outputs by stage name.

    Raises:
        DataRejected: no model can be trained on the data, or they differ too much from those accepted before.
    """
    outputs = run_chain(run, TURNS)
    contract(run, outputs["parse"], outputs["clean"])
    return run_chain(run, EXAMPLES, outputs)
