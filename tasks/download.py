"""Download: the stage that stores the raw files of a corpus."""

from pathlib import Path

from prefect import task

from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.transfer.guard import ANYWHERE, Reach
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("download", download_corpus)


# Not retried by Prefect: `fetch` has its own tries, and any other failure stays.
@task(task_run_name="download")
def download(config: DownloadConfig, home: Path, reach: Reach = ANYWHERE) -> Artifact:
    corpus = find_corpus(config, home, reach)
    return named(STAGE.run(home, config, {}, identity=corpus.identity, context={"corpus": corpus}))
