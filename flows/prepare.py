"""Prepare: the data half of retrain, for new data without a training.

download > parse > clean > vocabulary > export
"""

from prefect import flow

from flows.config import RetrainConfig
from flows.ending import plain
from flows.lineage import open_lineage, run_name
from flows.recipes import RECIPES
from tasks.artifacts import Artifact
from tasks.clean import clean
from tasks.download import download
from tasks.export import export
from tasks.parse import parse
from tasks.vocabulary import vocabulary


@flow(name="prepare", flow_run_name=run_name, log_prints=False)
def prepare(config: RetrainConfig = RECIPES["small"]) -> list[Artifact]:
    """The outputs of the five stages, made or reused."""
    run = open_lineage(config)
    raw = download(config.download, run.home)
    turns = parse(raw, config.parse, run.home)
    cleaned = clean(turns, config.clean, run.home)
    ids = vocabulary(cleaned, config.vocabulary, run.home)
    examples = export(cleaned, ids, config.markup, run.home)
    return [plain(made) for made in (raw, turns, cleaned, ids, examples)]
