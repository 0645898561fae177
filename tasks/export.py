"""Export: the stage that turns conversations into EXAMPLES."""

from pathlib import Path

from prefect import task

from models.data.examples import export_examples
from models.text.config import MarkupConfig
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("export", export_examples)


@task(task_run_name="export")
def export(clean: Artifact, vocabulary: Artifact, config: MarkupConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"clean": clean, "vocabulary": vocabulary}))
