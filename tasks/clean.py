"""Clean: the stage that normalises the turns of a corpus and assigns each conversation to a split."""

from collections.abc import Mapping

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from corpus.download import DownloadConfig
from corpus.forget_list import forgotten_in
from corpus.mix import names_of, read_mix
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.shards import StoredShards
from tasks.store.stage import External, Stage


def _external(run: RunContext, config: CleanConfig, inputs: Mapping[str, Artifact]) -> External:
    download = run.settings["download"]
    assert isinstance(download, DownloadConfig)
    forgotten = forgotten_in(run.home, names_of(corpus for corpus, _ in read_mix(download.corpus)))
    return External(forgotten.identity, {"forgotten": forgotten, "shards": StoredShards(run.home)})


clean = Stage(
    "clean",
    clean_turns,
    reads=("parse",),
    external=_external,
    outside="the list of what is forgotten",
    unit="turns",
)
