"""Parse: the stage that converts the raw files of a corpus into a table of turns (with the schema TURNS)."""

from collections.abc import Mapping

from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.shards import StoredShards
from tasks.store.stage import External, Stage


def _external(run: RunContext, config: ParseConfig, inputs: Mapping[str, Artifact]) -> External:
    return External(context={"shards": StoredShards(run.home)})


parse = Stage("parse", parse_corpus, reads=("download",), external=_external, unit="turns")
