"""Model folders of a few bytes, and registered versions made from them."""

from pathlib import Path

from models.registry.version import Version
from models.registry.versions import Registry


def model_folder(folder: Path, weights: bytes) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "README.md").write_text("# A model")
    return folder


def register(registry: Registry, folder: Path, fingerprint: str) -> Version:
    run_id = registry.open_run(fingerprint, "night", {}, {})
    registry.log_metrics(run_id, [("test/bpb", 1.5, 1, 1)])
    return registry.register(
        folder, run_id, fingerprint=fingerprint, tags={"recipe": "quick"}, description="first"
    )


def three(registry: Registry, tmp_path: Path) -> list[Version]:
    folders = [model_folder(tmp_path / str(i), b"%d" % i) for i in range(3)]
    return [register(registry, folder, f"{registry.model}-{i}") for i, folder in enumerate(folders)]
