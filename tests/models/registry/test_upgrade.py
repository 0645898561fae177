"""`repartee models --upgrade`: an earlier version becomes an MLflow model, even after an interruption."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
from chat_models import model_folder, set_generation
from registries import register_as_before

from chat.session import Session
from cli import registered
from cli.terminal import tables
from models.errors import InputError
from models.generation.generation_config import read_generation
from models.registry import mlflow_model
from models.registry.manifest import FOR_MLFLOW, allowed, digest_of, hashes, manifest_of, without_mlflow
from models.registry.reference import registered_model
from models.registry.version import Version
from models.registry.versions import Registry


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return set_generation(model_folder(tmp_path_factory.mktemp("models") / "a"), temperature=0, max_tokens=12)


@pytest.fixture
def before(registry: Registry, folder: Path) -> Version:
    return registry.promote(register_as_before(registry, folder, registry.model), "the first")


def reply_of(folder: Path) -> str:
    return Session(folder, read_generation(folder)).reply_once("hello there .").text


def test_an_earlier_version_can_be_used_in_a_chat_and_judged_as_before(
    registry: Registry, before: Version, folder: Path, tmp_path: Path
) -> None:
    found = registered_model("champion", registry, tmp_path / "copies")
    assert (found.version, reply_of(found.folder)) == (before.number, reply_of(folder))
    assert registry.unreadable(before, tmp_path / "copies") is None and not before.is_mlflow_model


def test_an_upgrade_adds_the_files_for_mlflow_and_changes_no_other(
    registry: Registry, before: Version, folder: Path, tmp_path: Path
) -> None:
    import mlflow

    assert registry.upgrade(before, tmp_path) is None
    version = registry.find("champion")
    assert version.is_mlflow_model and version.content_digest == before.tags["repartee.digest"]
    assert (version.number, version.source, version.aliases) == (
        before.number,
        before.source,
        before.aliases,
    )
    stored = registry.folder(version, tmp_path)
    assert without_mlflow(hashes(allowed(stored))) == hashes(allowed(folder))
    assert set(hashes(allowed(stored))) - set(hashes(allowed(folder))) == FOR_MLFLOW
    manifest = (stored / "manifest.json").read_bytes()
    assert sha256(manifest).hexdigest() == version.tags["repartee.digest"]
    assert json.loads(manifest)["files"].keys() == hashes(allowed(stored)).keys()
    (answer,) = mlflow.pyfunc.load_model(str(stored)).predict(mlflow_model.MESSAGES)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    # The files of the model itself have not changed, so registering them again creates no second version.
    again = registry.register(
        folder, version.run_id, fingerprint=registry.model, tags={}, description="again"
    )
    assert again == version and registry.versions() == [version]


def test_a_changed_file_is_damage_after_an_upgrade_as_before_it(
    registry: Registry, before: Version, tmp_path: Path
) -> None:
    registry.upgrade(before, tmp_path)
    version = registry.find("champion")
    stored = registry.folder(version, tmp_path)
    for name in ("MLmodel", "components/tokenizer/tokenizer.json", "config.json", "manifest.json"):
        content = (stored / name).read_bytes()
        (stored / name).write_bytes(content + b" ")
        assert name in (registry.damage(version) or ""), name
        (stored / name).write_bytes(content)
    assert registry.damage(version) is None


@pytest.mark.parametrize(
    "cut",
    ["in the first file", "after the files", "in the manifest", "after the manifest", "before the last tag"],
)
def test_a_version_can_be_read_wherever_its_upgrade_was_cut_off_and_the_next_upgrade_ends_it(
    registry: Registry, before: Version, tmp_path: Path, cut: str
) -> None:
    stored = registry.folder(before, tmp_path)
    own_files = hashes(allowed(stored))
    if cut == "in the first file":
        (stored / "MLmodel").write_text("flavors:\n  python_fun")
    else:
        mlflow_model.write(stored, stored)
    files = hashes(allowed(stored))
    if cut in ("in the manifest", "after the manifest", "before the last tag"):
        text = manifest_of(files)
        (stored / "manifest.json").write_text(text[:40] if cut == "in the manifest" else text)
    if cut == "before the last tag":
        registry.tag(before, {"repartee.content_digest": digest_of(own_files)})
    now = registry.find("champion")
    assert registry.damage(now) is None and not now.is_mlflow_model
    assert reply_of(registry.folder(now, tmp_path))
    assert registry.upgrade(now, tmp_path) is None
    upgraded = registry.find("champion")
    assert upgraded.is_mlflow_model and registry.damage(upgraded) is None


def test_while_an_upgrade_is_at_work_a_changed_file_of_the_model_is_still_damage(
    registry: Registry, before: Version, tmp_path: Path
) -> None:
    stored = registry.folder(before, tmp_path)
    mlflow_model.write(stored, stored)
    (stored / "manifest.json").write_text(manifest_of(hashes(allowed(stored))))
    (stored / "config.json").write_text("{}")
    with pytest.raises(InputError, match="differs from the registered file"):
        registry.folder(before, tmp_path)


def test_the_command_says_in_a_line_for_each_version_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    registry = Registry(f"sqlite:///{home}/mlflow.db", home / "mlartifacts")
    tutorial = model_folder(tmp_path / "tutorial", family="encoder-decoder", unit="pair", words=True)
    for number, model in enumerate((folder, tutorial, folder)):
        register_as_before(registry, model, f"training {number}")
    stored = registry.folder(registry.find("3"), tmp_path)
    (stored / "config.json").write_text("{}")
    registered.models(upgrade=True, as_json=False)
    damaged, second, first = capsys.readouterr().out.splitlines()
    assert first == "v1 is an MLflow model now"
    assert second == "v2 is unchanged: MLflow's chat task does not support encoder-decoders"
    assert damaged.startswith("v3 is unchanged: ") and "config.json" in damaged
    registered.models(upgrade=True, as_json=True)
    upgrades = json.loads(capsys.readouterr().out)["upgraded"]
    assert [(row["version"], row["upgraded"]) for row in upgrades] == [(3, False), (2, False)]
    assert tables.upgrade_lines([]) == "nothing to upgrade"
