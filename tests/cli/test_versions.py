"""The figures of versions, also of versions that an earlier release registered."""

from pathlib import Path

import pytest
from registries import model_folder, register_as_before

from cli.tables import version_table
from cli.versions import find_model, list_versions
from deployments.status import status
from models.registry.reference import open_registry
from settings import Settings


def test_a_version_with_the_metrics_of_an_earlier_release_is_listed_found_and_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "home"))
    registry = open_registry(Settings())
    version = register_as_before(registry, model_folder(tmp_path / "model", b"weights"), "earlier")
    registry.promote(version, "the first")
    listed = list_versions(None)
    [row] = listed["models"]
    assert (row["metrics"]["test_bpb"], row["metrics"]["test_parameters"]) == (1.5, 865_152.0)
    assert "1.5000     25.0%" in version_table(listed)
    assert find_model("champion").title == "repartee v1 (champion), 1.500 bits per byte"
    assert status()["champion"]["test_bpb"] == 1.5
