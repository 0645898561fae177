"""Start: the stage that stores the model which a training begins with."""

from pathlib import Path

from prefect import task

from models.pretrained.source import Source, StartConfig, find_source, take_start
from models.registry.reference import registered_model
from models.registry.versions import Registry
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named


def resolve(init: str, registry: Registry, home: Path) -> Source:
    """What `init` means.

    Raises:
        InputError: there is no such version, folder or file, or it holds no safetensors.
    """
    return find_source(init, lambda ref: registered_model(ref, registry, home / "registry").folder)


STAGE = Stage("start", take_start)


@task(task_run_name="start")
def start(config: StartConfig, source: Source, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {}, identity=source.identity, context={"source": source}))
