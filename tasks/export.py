"""Export: the stage that converts conversations into tokenised examples (with the schema EXAMPLES)."""

from collections.abc import Mapping

from models.data.examples import export_examples
from models.text.config import MarkupConfig
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.shards import StoredShards
from tasks.store.stage import External, Stage


def _external(run: RunContext, config: MarkupConfig, inputs: Mapping[str, Artifact]) -> External:
    return External(context={"shards": StoredShards(run.home)})


export = Stage(
    "export",
    export_examples,
    reads=("clean", "vocabulary"),
    settings="markup",
    external=_external,
    unit="examples",
)
