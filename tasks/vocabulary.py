"""Vocabulary: the stage that learns a tokenizer, or takes that of a pretrained model."""

from pathlib import Path

from prefect import task

from models.text.vocabulary import VocabularyConfig, learn_vocabulary
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("vocabulary", learn_vocabulary)


@task(task_run_name="vocabulary")
def vocabulary(
    clean: Artifact, config: VocabularyConfig, home: Path, start: Artifact | None = None
) -> Artifact:
    inputs = {"clean": clean} if start is None else {"clean": clean, "start": start}
    return named(STAGE.run(home, config, inputs))
