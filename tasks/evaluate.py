"""Evaluate: the stage that measures a model on the frozen test split."""

from pathlib import Path

from prefect import task

from models.evaluation.report import EvaluateConfig, evaluate_model
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

STAGE = Stage("evaluate", evaluate_model)


@task(task_run_name="evaluate")
def evaluate(
    train: Artifact, clean: Artifact, export: Artifact, config: EvaluateConfig, home: Path
) -> Artifact:
    return named(STAGE.run(home, config, {"train": train, "clean": clean, "export": export}))
