"""Tests of valid references to a model, and of the error messages about invalid references."""

from pathlib import Path

import pytest
from registries import model_folder, register

from models.errors import InputError
from models.registry.reference import model_in_folder, registered_model
from models.registry.versions import Registry


def test_a_path_is_a_model_folder_or_an_error_and_a_name_is_neither(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = model_folder(tmp_path / "model", b"weights")
    found = model_in_folder(str(folder))
    assert found is not None
    assert (found.folder, found.version, found.title) == (folder, None, str(folder))
    (tmp_path / "empty").mkdir()
    for ref in (str(tmp_path / "empty"), "no/where", "empty"):
        with pytest.raises(InputError, match="is not a model folder"):
            model_in_folder(ref)
    assert model_in_folder("champion") is None and model_in_folder("3") is None


def test_a_registered_model_has_the_title_and_the_corpus_of_its_version(
    registry: Registry, tmp_path: Path
) -> None:
    version = register(registry, model_folder(tmp_path / "model", b"weights"), registry.model)
    registry.tag(version, {"repartee.recipe": "quick", "repartee.source": "sample"})
    registry.promote(version, "the first")
    found = registered_model("champion", registry, tmp_path / "copies")
    assert (found.version, found.recipe, found.source) == (1, "quick", "sample")
    assert found.title == f"{registry.model} v1 (champion), 1.500 bits per byte"
    assert (found.folder / "model.safetensors").read_bytes() == b"weights"
    with pytest.raises(InputError, match="has no version '7'; it has 1 \\(champion\\)"):
        registered_model("7", registry, tmp_path / "copies")
