"""Evaluate: a registered model scored again, on the test split of its own corpus or of another.

    download > parse > clean > score

Deployed:  deployments/prefect.yaml, entrypoint flows/reevaluate.py:evaluate
"""

import flows  # noqa: F401  # its environment comes before Prefect, which loads this file as a script

# isort: split
from prefect import flow

from flows.lifecycle.context import evaluation_name, open_lineage, reach
from flows.lifecycle.parameters import CorpusName, to_config_of
from flows.lifecycle.publish import tell_scores
from tasks.clean import clean
from tasks.download import download
from tasks.gate import champion_artifact, score
from tasks.parse import parse


@flow(name="evaluate", flow_run_name=evaluation_name, log_prints=False)
def evaluate(model: str = "champion", corpus: CorpusName = None) -> dict[str, float]:
    """The figures of a version; the artifact `evaluation` shows them.

    Args:
        model: `champion`, `challenger`, `previous` or a version number.
        corpus: `cornell`, `sample`, the http(s) address of a zip (without user, password and query: where it
            has one, `env:REPARTEE_CORPUS_NAME`, a variable of the worker that holds it), or a file under
            REPARTEE_HOME. None: the one that the version was trained on.
    """
    version, config = to_config_of(model, corpus)
    run = open_lineage(config)
    raw = download(config.download, run.home, reach())
    turns = parse(raw, config.parse, run.home)
    cleaned = clean(turns, config.clean, run.home)
    artifact = champion_artifact(version, run.registry, run.home)
    figures = score(artifact, cleaned, config.evaluate.max_replies, run.home)
    return tell_scores(version, config, figures)
