import threading
from pathlib import Path

import pytest
from registries import model_folder, register, register_as_before, three

from models.errors import InputError
from models.registry.version import Version
from models.registry.versions import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", b"weights")


def test_a_registered_model_is_read_back_as_it_was(registry: Registry, model: Path, tmp_path: Path) -> None:
    version = register(registry, model, registry.model)
    assert (version.number, version.aliases, version.description) == (1, (), "first")
    assert version.metrics == {"test/bpb": 1.5}
    assert version.tags["recipe"] == "quick"
    folder = registry.folder(version, tmp_path / "cache")
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in model.iterdir()} | {"manifest.json"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "cache").exists()


def test_registering_again_makes_no_second_version(registry: Registry, model: Path) -> None:
    first = register(registry, model, registry.model)
    assert register(registry, model, registry.model) == first
    assert registry.versions() == [first]


def test_registering_again_mends_damaged_files(registry: Registry, model: Path, tmp_path: Path) -> None:
    first = register(registry, model, registry.model)
    assert registry.damage(first) is None
    (registry.folder(first, tmp_path / "cache") / "model.safetensors").unlink()
    assert "model.safetensors" in (registry.damage(first) or "")
    assert register(registry, model, registry.model) == first
    assert registry.damage(first) is None


def test_files_that_are_gone_with_their_run_are_stored_again_as_a_new_version(
    registry: Registry, model: Path
) -> None:
    first = register_as_before(registry, model, registry.model)
    registry.promote(first, "the first")
    registry.client.delete_run(first.run_id)
    registry.client._tracking_client.store._hard_delete_run(first.run_id)  # like `mlflow gc`
    assert "deleted" in (registry.damage(first) or "")
    second = register(registry, model, registry.model)
    assert (second.number, registry.damage(second)) == (2, None)
    assert second.run_id != first.run_id


def test_a_try_that_died_before_the_version_is_finished_by_the_next(registry: Registry, model: Path) -> None:
    run_id = registry.open_run(registry.model, "night", {}, {})
    registry.log_artifacts(run_id, model, "model")
    assert register(registry, model, registry.model).number == 1


def test_other_weights_of_the_same_training_leave_the_first_version_alone(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    first = register(registry, model, registry.model)
    second = register(registry, model_folder(tmp_path / "b", b"other"), registry.model)
    assert (first.number, second.number, first.run_id) == (1, 2, second.run_id)
    for version, weights in ((first, b"weights"), (second, b"other")):
        folder = registry.folder(version, tmp_path / "cache")
        assert (folder / "model.safetensors").read_bytes() == weights


def test_the_aliases_move_and_the_history_says_why(registry: Registry, tmp_path: Path) -> None:
    one, two, three_ = three(registry, tmp_path)
    assert registry.champion() is None
    registry.promote(one, "the first")
    registry.client.set_registered_model_alias(registry.model, "challenger", str(three_.number))
    champion = registry.promote(two, "better by 0.1")
    assert (champion.number, champion.aliases) == (2, ("champion",))
    assert registry.champion() == champion == registry.find("champion") == registry.find("v2")
    assert registry.find("previous").number == 1
    assert registry.find("challenger").number == 3
    assert champion.tags["repartee.previous"] == "1"
    assert champion.tags["repartee.promoted_at"].endswith("+00:00")
    assert [version.number for version in registry.versions()] == [3, 2, 1]
    registry.promote(registry.find("previous"), "rolled back")
    entries = [(entry.version, entry.previous, entry.why) for entry in registry.history()]
    assert entries == [(1, 2, "rolled back"), (2, 1, "better by 0.1"), (1, None, "the first")]


def test_promoting_the_champion_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    one, two, _ = three(registry, tmp_path)
    registry.promote(one, "the first")
    once = registry.promote(two, "better")
    assert registry.promote(two, "better") == once
    assert registry.find("previous").number == 1
    assert len(registry.history()) == 2


def test_a_promotion_cut_off_before_its_history_is_finished_by_the_next(
    registry: Registry, model: Path
) -> None:
    version = register(registry, model, registry.model)
    registry.client.set_registered_model_alias(registry.model, "champion", "1")
    registry.promote(version, "again")
    assert [entry.why for entry in registry.history()] == ["again"]


def test_two_promoters_leave_one_champion(registry: Registry, tmp_path: Path) -> None:
    versions = three(registry, tmp_path)[:2]
    outcomes: list[int | str] = []

    def promote(version: Version) -> None:
        try:
            outcomes.append(registry.promote(version, "better").number)
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=promote, args=[version]) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    champion = registry.champion()
    assert champion is not None and champion.number in outcomes
    assert len(outcomes) == 2
    assert {entry.version for entry in registry.history()} == {1, 2}


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_tampered_file_is_refused_by_name(
    registry: Registry, model: Path, tmp_path: Path, name: str
) -> None:
    version = register(registry, model, registry.model)
    folder = registry.folder(version, tmp_path)
    (folder / name).write_bytes(b"{}")
    with pytest.raises(
        InputError, match=rf"{name} of {registry.model} version 1 differs from the registered"
    ):
        registry.folder(version, tmp_path)


def test_a_missing_and_an_added_file_are_refused_by_name(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = register(registry, model, registry.model)
    folder = registry.folder(version, tmp_path)
    (folder / "modeling.py").write_text("import os")
    with pytest.raises(InputError, match=r"modeling\.py of"):
        registry.folder(version, tmp_path)
    (folder / "modeling.py").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json of .* is missing"):
        registry.folder(version, tmp_path)


@pytest.mark.parametrize("name", ["optimizer.pt", "modeling_x.py", "weights.pkl", "other.jinja"])
def test_files_that_may_hold_code_are_never_registered(registry: Registry, model: Path, name: str) -> None:
    (model / name).write_text("")
    with pytest.raises(InputError, match=name):
        registry.register(model, "run", fingerprint="f", tags={}, description="")


def test_a_link_out_of_the_folder_is_never_registered(registry: Registry, model: Path) -> None:
    (model / "secret.json").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"secret\.json is a symbolic link"):
        registry.register(model, "run", fingerprint="f", tags={}, description="")


def test_a_folder_without_weights_is_never_registered(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"contains no \.safetensors file"):
        registry.register(tmp_path, "run", fingerprint="f", tags={}, description="")


def test_an_empty_registry_says_what_makes_the_first_version(registry: Registry) -> None:
    assert (registry.champion(), registry.versions(), registry.history()) == (None, [], [])
    with pytest.raises(InputError, match=r"no version .* yet; `repartee run` registers the first one"):
        registry.find("champion")


@pytest.mark.parametrize("ref", ["previous", "99", "v99", "best", ""])
def test_an_unknown_version_names_those_that_exist(registry: Registry, model: Path, ref: str) -> None:
    registry.promote(register(registry, model, registry.model), "the first")
    with pytest.raises(InputError, match=rf"no version '{ref}'; it has 1 \(champion\)"):
        registry.find(ref)


def test_a_version_made_by_hand_is_refused_with_a_reason(registry: Registry, store: Path) -> None:
    registry.client.create_registered_model(registry.model)
    registry.client.create_model_version(registry.model, f"{store}/somewhere")
    with pytest.raises(InputError, match="was not registered by Repartee"):
        registry.folder(registry.find("1"), store)


def test_nothing_is_printed(
    registry: Registry, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    version = register(registry, model, registry.model)
    registry.promote(version, "the first")
    registry.close_run(version.run_id, "FINISHED")
    registry.folder(version, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_what_is_left_of_a_copy_that_was_cut_off_goes_with_the_next_copy(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = register(registry, model, registry.model)
    left = tmp_path / "cache" / ".tmp-killed" / "model"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    registry._download(version.source, tmp_path / "cache" / "v1")
    assert (tmp_path / "cache" / "v1" / "model.safetensors").read_bytes() == b"weights"
    assert not left.parent.exists()
