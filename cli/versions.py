"""Versions: list the registered models, and find the model that a reference names."""

from typing import Any

from models.errors import InputError, TrackingUnavailable
from models.registry.reference import Model, model_in_folder, open_registry, registered_model
from models.registry.version import Version
from models.registry.versions import Registry
from settings import Settings


def find_model(ref: str, line: str | None = None) -> Model:
    """The model that `ref` names. A version without its model line is looked up in the model line `line`.

    Raises:
        InputError: there is no such version or folder; the message lists the registered versions.
    """
    if model := model_in_folder(ref):
        return model
    settings = Settings()
    return registered_model(ref, open_registry(settings, line), settings.root / "registry")


def run_tags(registry: Registry, version: Version) -> dict[str, str]:
    """The tags of the MLflow run that trained a version; empty if the run was deleted."""
    run = registry.run_or_none(version.run_id) if version.run_id else None
    return {} if run is None else dict(run.data.tags)


def upgrade_versions(line: str | None) -> list[dict[str, Any]]:
    """Turn each version that is not an MLflow model into one, and return the results, newest version first.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    settings = Settings()
    registry = open_registry(settings, line)
    upgrades: list[dict[str, Any]] = []
    for version in registry.versions():
        if version.is_mlflow_model:
            continue
        try:
            why = registry.upgrade(version, settings.root / "registry")
        except TrackingUnavailable:
            raise
        except InputError as error:
            why = str(error)
        upgrades.append({"version": version.number, "upgraded": why is None, "why": why or ""})
    return upgrades


def list_versions(line: str | None) -> dict[str, Any]:
    """The versions of a line in the form that `repartee models --json` prints, newest version first.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    registry = open_registry(Settings(), line)
    rows = [
        {
            "version": version.number,
            "aliases": list(version.aliases),
            "metrics": version.scores,
            "tags": version.tags,
        }
        for version in registry.versions()
    ]
    return {"models": rows, "line": registry.model, "lines": registry.lines()}
