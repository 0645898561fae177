"""Parse: the stage that turns the raw files of a corpus into TURNS."""

from pathlib import Path

from prefect import task

from corpus.readers.parse import ParseConfig, parse_corpus
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("parse", parse_corpus)


@task(task_run_name="parse")
def parse(download: Artifact, config: ParseConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"download": download}))
