"""Start: the stage that stores the initial model, from whose weights training starts."""

from collections.abc import Mapping
from pathlib import Path

from models.pretrained.source import SCRATCH, TRUNK, Source, StartConfig, find_source, take_start
from models.registry.reference import registered_model
from models.registry.versions import Registry
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import External, Stage


def resolve(init: str, registry: Registry, home: Path) -> Source:
    """Find the initial model that the setting `init` names.

    Raises:
        InputError: there is no such version, folder or file, or it has no safetensors weights.
    """
    return find_source(init, lambda ref: registered_model(ref, registry, home / "registry").folder)


def _is_used(config: StartConfig) -> bool:
    return config.init not in (SCRATCH, TRUNK)  # the stage `train` itself reads the trunk


def _external(run: RunContext, config: StartConfig, inputs: Mapping[str, Artifact]) -> External:
    source = resolve(config.init, run.registry, run.home)
    return External(source.identity, {"source": source})


start = Stage(
    "start", take_start, is_used=_is_used, external=_external, outside="the initial model", unit="files"
)
