"""Download: the stage that stores the raw files of a corpus."""

from collections.abc import Mapping

from corpus.download import DownloadConfig, download_corpus, find_corpus
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import External, Stage


def _external(run: RunContext, config: DownloadConfig, inputs: Mapping[str, Artifact]) -> External:
    corpus = find_corpus(config, run.home, run.reach)
    return External(corpus.identity, {"corpus": corpus})


download = Stage("download", download_corpus, external=_external, unit="files")
