"""Tests of versions as logged models of their runs: MLflow's pages, retries, and a server."""

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import until
from registries import model_folder, register_as_before

from models.errors import InputError
from models.registry.logged_models import Scores
from models.registry.manifest import allowed, digest_of, hashes
from models.registry.version import Version
from models.registry.versions import Registry

SCORES = Scores([("test/bpb", 1.5, 0, 0), ("test/accuracy", 0.25, 0, 0)], "sample-test", "d" * 64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", b"weights")


def open_run(registry: Registry) -> str:
    run_id = registry.open_run(registry.model, "night", {}, {})
    registry.log_metrics(run_id, SCORES.points)
    registry.log_dataset(
        run_id,
        SCORES.dataset,
        digest=SCORES.digest,
        source="/corpus",
        profile={"examples": 3},
        context="test",
    )
    return run_id


def register(registry: Registry, folder: Path, run_id: str) -> Version:
    return registry.register(
        folder, run_id, fingerprint=registry.model, tags={}, description="first", scores=SCORES
    )


def assert_shown_once(registry: Registry, version: Version) -> None:
    """Check that MLflow links the run to one logged model with the scores, and this model to the version."""
    client = registry.client
    run = client.get_run(version.run_id)
    (output,) = run.outputs.model_outputs
    assert version.source == f"models:/{output.model_id}"
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{version.run_id}'")
    assert [each.model_id for each in found] == [output.model_id]
    logged = client.get_logged_model(output.model_id)
    assert (logged.status.name, logged.source_run_id) == ("READY", version.run_id)
    shown = sorted((metric.key, metric.value) for metric in logged.metrics)
    assert shown == [("test/accuracy", 0.25), ("test/bpb", 1.5)]
    assert {(m.dataset_name, m.dataset_digest) for m in logged.metrics} == {("sample-test", "d" * 36)}
    assert {(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs} == {
        ("sample-test", "d" * 36)
    }
    assert [len(client.get_metric_history(version.run_id, key)) for key, *_ in SCORES.points] == [1, 1]
    versions = f'[{{"name": "{registry.model}", "version": {version.number}}}]'
    assert logged.tags["mlflow.modelVersions"].replace('"1"', "1") == versions


def test_a_version_is_a_logged_model_of_its_run_with_its_scores_and_their_dataset(
    registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    version = register(registry, model, open_run(registry))
    assert_shown_once(registry, version)
    assert register(registry, model, version.run_id) == version
    assert_shown_once(registry, version)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert list(Path().iterdir()) == [], "MLflow's default store is not touched"


@pytest.mark.parametrize("steps", range(4))
def test_a_registration_that_was_cut_off_is_finished_by_the_next_as_one_version(
    registry: Registry, model: Path, steps: int
) -> None:
    run_id = open_run(registry)
    files = hashes(allowed(model))
    model_id = registry._open_logged_model(run_id, digest_of(files))
    if steps > 0:
        registry._upload(model, f"models:/{model_id}")
    if steps > 1:
        registry._store(model, files, f"models:/{model_id}")
        registry._finish_logged_model(model_id)
    if steps > 2:
        registry._make_model()
        tags = {"repartee.digest": digest_of(files), "repartee.train_fingerprint": registry.model}
        registry._create_version(model_id, run_id, tags=tags, description="first")
    version = register(registry, model, run_id)
    assert (version.number, version.source) == (1, f"models:/{model_id}")
    assert registry.versions() == [version]
    assert registry.damage(version) is None
    assert_shown_once(registry, version)


def test_a_version_whose_logged_model_is_deleted_is_said_to_be_gone_and_made_anew(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    run_id = open_run(registry)
    first = register(registry, model, run_id)
    registry.client.delete_logged_model(first.logged_model)
    with pytest.raises(InputError, match=f"deleted together with MLflow logged model {first.logged_model}"):
        registry.folder(first, tmp_path)
    second = register(registry, model, run_id)
    assert (second.number, registry.damage(second)) == (2, None)


def test_a_version_outlives_its_run(registry: Registry, model: Path, tmp_path: Path) -> None:
    version = registry.promote(register(registry, model, open_run(registry)), "the first")
    registry.client.delete_run(version.run_id)
    assert registry.damage(version) is None
    registry.client._tracking_client.store._hard_delete_run(version.run_id)  # like `mlflow gc`
    assert registry.damage(version) is None
    assert (registry.folder(version, tmp_path) / "model.safetensors").read_bytes() == b"weights"


def test_an_earlier_version_is_read_and_restored_and_not_registered_twice(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = registry.promote(register_as_before(registry, model, registry.model), "the first")
    assert (version.logged_model, registry.unreadable(version, tmp_path)) == ("", None)
    assert registry.find("champion") == version
    again = register(registry, model, version.run_id)
    assert (again.number, again.tags, len(registry.versions())) == (1, version.tags, 1)
    stored = registry.folder(version, tmp_path)
    (stored / "config.json").write_text("damaged")
    assert "config.json" in (registry.damage(version) or "")
    restored = register(registry, model, version.run_id)
    assert (restored.number, restored.source, registry.damage(restored)) == (1, version.source, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that also stores artifacts for its clients."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(port))
        yield address
    finally:
        process.terminate()
        process.wait(60)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.flow
def test_through_a_server_a_version_is_stored_read_back_and_shown_as_on_this_machine(
    server: str, model: Path, tmp_path: Path
) -> None:
    registry = Registry(server, None, model=f"repartee-{uuid.uuid4().hex[:8]}")
    run_id = open_run(registry)
    version = register(registry, model, run_id)
    assert_shown_once(registry, version)
    assert register(registry, model, run_id) == version
    assert_shown_once(registry, version)
    copy = registry.folder(version, tmp_path / "cache")
    assert copy.is_relative_to(tmp_path) and (copy / "model.safetensors").read_bytes() == b"weights"
    earlier = register_as_before(registry, model_folder(tmp_path / "b", b"other"), "earlier")
    assert (registry.folder(earlier, tmp_path / "cache") / "model.safetensors").read_bytes() == b"other"
    registry.client.delete_logged_model(version.logged_model)
    assert "deleted together with" in (registry.damage(version) or "")
