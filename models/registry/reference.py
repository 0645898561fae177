"""A reference to a model, as a user writes it: champion, challenger, a version number or a model folder.

`LINE@champion` and `LINE@3` name versions of a model line other than the default one. A model line is a
registered model in MLflow, with its own versions, champion and history.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from models.errors import InputError
from models.files import path_of
from models.registry.tags import RECIPE, SOURCE
from models.registry.versions import Registry


@dataclass(frozen=True)
class Model:
    """A model folder on this machine, with its version number if it is a registered version."""

    folder: Path
    version: int | None
    title: str
    recipe: str = "small"
    source: str | None = None
    """The corpus that the version was trained on."""
    digest: str = ""
    """The model's digest, which is equal for equal weights; "" if the model is not a registered version."""


class RegistrySettings(Protocol):
    """The settings that a registry is opened with; `settings.Settings` has all of them."""

    @property
    def root(self) -> Path: ...
    @property
    def tracking_uri(self) -> str: ...
    @property
    def model_name(self) -> str: ...
    @property
    def experiment(self) -> str: ...


def open_registry(settings: RegistrySettings, line: str | None = None) -> Registry:
    """Return the registry that these settings describe, for the model line `line` or the default one.

    MLflow is not accessed until a method of the registry is called.
    """
    artifacts, model = settings.root / "mlartifacts", line or settings.model_name
    return Registry(settings.tracking_uri, artifacts, model, settings.experiment)


def in_line(ref: str, registry: Registry) -> tuple[Registry, str]:
    """Return the registry of the model line that the reference names, and the reference without this name.

    `support-bot@3` means version 3 of the line `support-bot`; `3` means version 3 of the line of `registry`.
    """
    line, _, version = ref.rpartition("@")
    return (replace(registry, model=line), version) if line else (registry, ref)


def model_in_folder(ref: str) -> Model | None:
    """The model folder at this path; None if the reference is not a path.

    Raises:
        InputError: the reference is clearly a path, but there is no model folder at this path.
    """
    folder = path_of(ref)
    if (folder / "config.json").is_file():
        return Model(folder, None, str(folder))
    if "/" in ref or folder.exists():
        raise InputError(
            f"{ref} is not a model folder (it has no config.json); give a model folder or a version that "
            "`repartee models` lists"
        )
    return None


def registered_model(ref: str, registry: Registry, copies: Path) -> Model:
    """The version that the reference names. Files that are on another machine are copied to `copies`.

    Raises:
        InputError: there is no such version (the message lists all versions), or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    registry, number_or_alias = in_line(ref, registry)
    version = registry.find(number_or_alias)
    bpb = f", {version.metrics['test/bpb']:.3f} bits per byte" if "test/bpb" in version.metrics else ""
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return Model(
        folder=registry.folder(version, copies),
        version=version.number,
        title=f"{registry.model} v{version.number}{aliases}{bpb}",
        recipe=version.tags.get(RECIPE, "small"),
        source=version.tags.get(SOURCE),
        digest=version.digest,
    )
