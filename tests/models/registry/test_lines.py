"""Tests of model lines: registered models in one store, each with its own versions, champion and history."""

from dataclasses import replace
from pathlib import Path

import pytest
from registries import model_folder, register

from models.errors import InputError
from models.registry.reference import in_line, registered_model
from models.registry.versions import Registry


@pytest.fixture
def support(registry: Registry) -> Registry:
    """The registry of another line in the same store."""
    return replace(registry, model=f"support {registry.model}")


def test_each_line_has_its_own_versions_champion_and_history(
    registry: Registry, support: Registry, tmp_path: Path
) -> None:
    for line, weights in ((registry, b"one"), (support, b"two")):
        folder = model_folder(tmp_path / weights.decode(), weights)
        line.promote(register(line, folder, line.model), f"the first of {line.model}")
    assert [entry.why for entry in registry.history()] == [f"the first of {registry.model}"]
    assert [entry.why for entry in support.history()] == [f"the first of {support.model}"]
    assert [version.number for version in support.versions()] == [1]
    found = registered_model(f"{support.model}@champion", registry, tmp_path / "copies")
    assert (found.folder / "model.safetensors").read_bytes() == b"two"
    assert found.title.startswith(f"{support.model} v1 (champion)")


def test_a_line_is_listed_as_soon_as_it_has_had_a_champion(
    registry: Registry, support: Registry, tmp_path: Path
) -> None:
    version = register(support, model_folder(tmp_path / "model", b"weights"), support.model)
    assert support.model not in registry.lines()
    support.promote(version, "the first")
    assert support.model in registry.lines()


def test_the_name_of_a_line_ends_at_the_last_at_sign(registry: Registry) -> None:
    for ref, line, version in (
        ("champion", registry.model, "champion"),
        ("3", registry.model, "3"),
        ("support-bot@3", "support-bot", "3"),
        ("info@example@previous", "info@example", "previous"),
        ("@3", registry.model, "@3"),
    ):
        found, rest = in_line(ref, registry)
        assert (found.model, rest) == (line, version)


def test_a_line_without_versions_is_an_error_that_names_the_lines(
    registry: Registry, support: Registry, tmp_path: Path
) -> None:
    support.promote(register(support, model_folder(tmp_path / "model", b"w"), support.model), "the first")
    with pytest.raises(InputError, match=f"no version of 'unknown' is registered .*{support.model}"):
        registered_model("unknown@champion", registry, tmp_path / "copies")
    with support.writing() as client:
        client.delete_model_version(support.model, "1")
    with pytest.raises(InputError) as error:
        registered_model(f"{support.model}@champion", registry, tmp_path / "copies")
    assert str(error.value).count(support.model) == 1, "the line itself is no other line"
