"""REF: champion, challenger, a version number or a model folder, and the versions there are."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.files import path_of
from models.registry.versions import Registry
from settings import Settings


@dataclass(frozen=True)
class Model:
    """A model folder on this machine, and the version that it is (none: a bare folder)."""

    folder: Path
    version: int | None
    title: str
    recipe: str = "small"
    source: str | None = None  # the corpus that it was trained on


def open_registry() -> Registry:
    here = Settings()
    return Registry(here.tracking_uri, here.root / "mlartifacts", here.model_name, here.experiment)


def find_model(ref: str) -> Model:
    """
    Raises:
        InputError: there is no such version or folder; the line says which there are.
    """
    folder = path_of(ref)
    if (folder / "config.json").is_file():
        return Model(folder, None, str(folder))
    if "/" in ref or folder.exists():
        raise InputError(
            f"{ref} is no model folder (it has no config.json); give one, or a version of `repartee models`"
        )
    registry = open_registry()
    version = registry.find(ref)
    known = f", {version.metrics['test/bpb']:.3f} bits per byte" if "test/bpb" in version.metrics else ""
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    title = f"{registry.model} v{version.number}{aliases}{known}"
    return Model(
        folder=registry.folder(version, Settings().root / "registry"),
        version=version.number,
        title=title,
        recipe=version.tags.get("repartee.recipe", "small"),
        source=version.tags.get("repartee.source"),
    )


def list_versions() -> list[dict[str, Any]]:
    """Each registered version as `repartee models --json` tells it, the newest first."""
    return [
        {
            "version": version.number,
            "aliases": list(version.aliases),
            "metrics": {k.replace("/", "_"): v for k, v in version.metrics.items() if k.startswith("test/")},
            "tags": version.tags,
        }
        for version in open_registry().versions()
    ]


def version_table(versions: list[dict[str, Any]]) -> str:
    """The versions as a person reads them."""
    if not versions:
        return "no model is registered yet; `repartee run` makes the first"
    lines = [f"{'version':<8}{'alias':<12}{'bits/byte':>10}{'accuracy':>10}  {'recipe':<10}{'corpus'}"]
    for row in versions:
        bpb, accuracy = (row["metrics"].get(key, math.nan) for key in ("test_bpb", "test_accuracy"))
        recipe, corpus = (row["tags"].get(key, "") for key in ("repartee.recipe", "repartee.corpus"))
        aliases = ", ".join(row["aliases"])
        lines.append(f"v{row['version']:<7}{aliases:<12}{bpb:>10.4f}{accuracy:>10.1%}  {recipe:<10}{corpus}")
    return "\n".join(lines)
