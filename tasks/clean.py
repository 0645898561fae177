"""Clean: the stage that normalises the turns of a corpus and splits them."""

from pathlib import Path

from prefect import task

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("clean", clean_turns)


@task(task_run_name="clean")
def clean(parse: Artifact, config: CleanConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"parse": parse}))
