"""Evaluate: score a model again, on the test split of its own corpus or of another corpus.

    download > parse > clean > rescore

Locally:   repartee evaluate champion --corpus SOURCE
Deployed:  deployments/prefect.yaml, entrypoint flows/reevaluate.py:evaluate
"""

import flows  # noqa: F401  # sets the environment before Prefect is imported

# isort: split
from prefect import flow

from flows.lifecycle.context import open_run
from flows.lifecycle.graph import needed_for, run_chain
from flows.lifecycle.names import evaluation_name
from flows.lifecycle.parameters import CorpusName, as_trained, to_config
from flows.lifecycle.publish import artifact_of, publish_scores
from flows.prepare import DATA
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.registry.reference import Model, open_registry, registered_model
from models.registry.tags import CORPUS
from settings import Settings
from tasks.clean import clean
from tasks.gate import COPIES, model_artifact, rescore
from tasks.store.run_context import RunContext

CHAIN = (*needed_for(DATA, clean), rescore)


@flow(name="evaluate", flow_run_name=evaluation_name, log_prints=False)
def evaluate(model: str = "champion", corpus: CorpusName = None) -> dict[str, float]:
    """Score a registered version. The scores are returned, and are also shown in the artifact `evaluation`.

    Args:
        model: The version to score: `champion`, `challenger`, `previous` or a version number.
        corpus: The corpus whose test split is used: `cornell`, `sample`, the http(s) address of a file,
            `hf:ORG/NAME` on the Hugging Face hub, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, or a file or folder
            under REPARTEE_HOME. If the address contains a login or a query string, put it into a variable of
            the worker such as REPARTEE_CORPUS_NAME (only NAME is free), and enter `env:REPARTEE_CORPUS_NAME`.
            Several sources with weights: `cornell + sample=0.5`. Empty: the corpus on which the version was
            trained.
    """
    settings = Settings()
    found = registered_model(model, open_registry(settings), settings.root / COPIES)
    config = to_config(found.recipe, corpus or found.source)
    run = open_run(as_trained(config, found.folder), settings)
    return publish_scores(found, run.tags[CORPUS], score(run, found))


def score(run: RunContext, model: Model, *, in_flow: bool = True) -> dict[str, float]:
    """The scores of a model on the test split of the run's corpus, computed now or taken from the store."""
    outputs = run_chain(run, CHAIN, {"champion": model_artifact(model)}, in_flow=in_flow)
    return ScoreRecord.read(artifact_of(outputs["rescore"]).path / SCORE).figures()
