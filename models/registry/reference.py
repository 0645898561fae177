"""A reference to a model, as a person writes it: champion, challenger, a version number or a model folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.errors import InputError
from models.files import path_of
from models.registry.tags import RECIPE, SOURCE
from models.registry.versions import Registry


@dataclass(frozen=True)
class Model:
    """A model folder on this machine, and the registered version that it holds (None: a folder by itself)."""

    folder: Path
    version: int | None
    title: str
    recipe: str = "small"
    source: str | None = None
    """The corpus that the version was trained on."""
    digest: str = ""
    """Equal for equal weights; "" of a folder by itself."""


class RegistrySettings(Protocol):
    """What decides which registry is meant; `settings.Settings` has it."""

    @property
    def root(self) -> Path: ...
    @property
    def tracking_uri(self) -> str: ...
    @property
    def model_name(self) -> str: ...
    @property
    def experiment(self) -> str: ...


def open_registry(settings: RegistrySettings) -> Registry:
    """The registry of these settings. Nothing is read, written or asked before the first call of a method."""
    return Registry(
        settings.tracking_uri, settings.root / "mlartifacts", settings.model_name, settings.experiment
    )


def model_in_folder(ref: str) -> Model | None:
    """The model folder at this path; None if the reference is not a path.

    Raises:
        InputError: the path exists or cannot be anything else, and is not a model folder.
    """
    folder = path_of(ref)
    if (folder / "config.json").is_file():
        return Model(folder, None, str(folder))
    if "/" in ref or folder.exists():
        raise InputError(
            f"{ref} is no model folder (it has no config.json); give one, or a version of `repartee models`"
        )
    return None


def registered_model(ref: str, registry: Registry, copies: Path) -> Model:
    """The version with this number or alias; the files of a remote one are copied into the folder `copies`.

    Raises:
        InputError: there is no such version (the line lists those there are), or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    version = registry.find(ref)
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
