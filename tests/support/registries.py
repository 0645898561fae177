"""Model folders of a few bytes, and registered versions made from them."""

import json
from hashlib import sha256
from pathlib import Path

from models.registry.tags import DIGEST, FINGERPRINT
from models.registry.version import Version
from models.registry.versions import Registry

EARLIER_METRICS = {
    "test/bpb": 1.5,
    "test/accuracy": 0.25,
    "test/replies": 675.0,
    "test/parameters": 865_152.0,
    "epoch/validation_bpb": 1.6,
    "replies/distinct_1": 0.5,
    "train/progress": 1.0,
}
"""Metrics of earlier releases; some of them are no longer logged."""


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


def register_as_before(registry: Registry, folder: Path, fingerprint: str) -> Version:
    """Register a folder as artifacts of a run, like releases in which versions were not MLflow models."""
    run_id = registry.open_run(fingerprint, "night", {}, {})
    registry.log_metrics(run_id, [(key, value, 0, 0) for key, value in EARLIER_METRICS.items()])
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    manifest = json.dumps({"files": files}, indent=1, sort_keys=True) + "\n"
    registry.log_artifacts(run_id, folder, "model")
    registry.log_text(run_id, manifest, "model/manifest.json")
    registry._make_model()
    tags = {FINGERPRINT: fingerprint, DIGEST: sha256(manifest.encode()).hexdigest(), "recipe": "quick"}
    with registry.writing() as client:
        created = client.create_model_version(
            registry.model, f"runs:/{run_id}/model", run_id=run_id, tags=tags, description="first"
        )
    return registry.find(str(created.version))


def three(registry: Registry, tmp_path: Path) -> list[Version]:
    folders = [model_folder(tmp_path / str(i), b"%d" % i) for i in range(3)]
    return [register(registry, folder, f"{registry.model}-{i}") for i, folder in enumerate(folders)]
