"""A night begins with the trunk of its line and moves it last, whatever happens in between."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from registries import model_folder, register

from flows.lifecycle.context import describe_run
from flows.recipes import configure
from models.errors import InputError
from models.registry.versions import Registry
from models.training.launch import Summary
from models.training.trunk import files as trunk_files
from settings import Settings
from tasks.store.artifact import Artifact, new_manifest, write_manifest
from tasks.store.run_context import RunContext
from tasks.trunk import night
from tasks.trunk.chain import SHAPE, trunks


@pytest.fixture
def run(tmp_path: Path) -> RunContext:
    return context(tmp_path / "home")


def context(home: Path, *changes: str, line: str = "repartee", init: str = "trunk") -> RunContext:
    home.mkdir(exist_ok=True)
    registry = Registry(f"sqlite:///{home}/mlflow.db", home / "mlartifacts", line, "repartee")
    found = describe_run(configure("quick", None, list(changes), init), Settings())
    return replace(found, home=home, registry=registry)


def trained(run: RunContext, *, bpb: float = 2.0, export: str = "data") -> Artifact:
    """The output of `train` that a night leaves: the stage would build it from the trunk and the examples."""
    ingredients = {"inputs": {"export": export}, "config": "settings", "code": "code"}
    parent = night.parent_of(run, night.base_of(ingredients))
    ingredients["inputs"] |= {"source": f"trunk: {parent.digest}"}
    fingerprint = f"{abs(hash(json.dumps(ingredients))):x}"[:24]
    folder = run.home / "store" / "train" / fingerprint
    if not folder.exists():
        leave_trunk(night.next_folder(run, fingerprint), fingerprint)
        (folder / "logs").mkdir(parents=True)
        Summary(steps=3, precision="fp32", device="cpu", trunk_bpb=bpb).write(
            folder / "logs" / "summary.json"
        )
        write_manifest(folder, new_manifest(folder, ingredients, 3, 1.0))
    return Artifact("train", fingerprint, f"model of {fingerprint}", folder, 3, "ran", 1.0, "")


def leave_trunk(folder: Path, content: str) -> None:
    folder.mkdir(parents=True)
    (folder / "optimizer.safetensors").write_text(content)
    trunk_files.seal(folder)


def spend(run: RunContext, **given: object) -> Artifact:
    """A whole night: begin, train, move."""
    night.begin_night(run)
    train = trained(run, **given)  # type: ignore[arg-type]
    night.move(run, train)
    return train


def entries(run: RunContext) -> list[str]:
    return [each.origin or each.fingerprint for each in night.trunk_of(run).chain().nights]


def test_the_first_night_begins_with_random_weights_and_each_night_with_the_night_before(
    run: RunContext,
) -> None:
    first, second = spend(run), spend(run)
    assert entries(run) == ["random weights", first.fingerprint, second.fingerprint]
    chain = night.trunk_of(run).chain().nights
    assert [each.parent for each in chain[1:]] == [each.digest for each in chain[:-1]]
    assert chain[-1].model == second.digest


def test_only_the_trunk_and_its_parent_stay_on_the_disk(run: RunContext) -> None:
    _, second, third = spend(run), spend(run), spend(run)
    folders = sorted(path.name for path in night.trunk_of(run).path("").iterdir())
    assert folders == sorted([second.fingerprint, third.fingerprint])


def test_a_night_that_has_not_moved_the_trunk_is_continued(run: RunContext) -> None:
    night.begin_night(run)
    train = trained(run)
    night.begin_night(run)
    assert trained(run).fingerprint == train.fingerprint
    assert night.planned(run, train) == (
        "run",
        "night 1 has been trained, but has not moved the trunk yet",
    )
    night.move(run, train)
    assert trained(run).fingerprint != train.fingerprint


def test_to_move_twice_changes_nothing(run: RunContext) -> None:
    train = spend(run)
    before = entries(run)
    night.move(run, train)
    assert entries(run) == before


def test_a_folder_of_a_night_that_was_given_up_is_removed_by_the_next_move(run: RunContext) -> None:
    """The data changed after the kill of a night, so the night began again with other data."""
    night.begin_night(run)
    given_up = trained(run)
    spend(run, export="new data")
    assert not night.trunk_of(run).path(given_up.fingerprint).exists()


def test_two_nights_that_are_no_better_without_new_data_have_converged(run: RunContext) -> None:
    spend(run, bpb=2.0)
    spend(run, bpb=1.9)
    spend(run, bpb=1.9)
    last = spend(run, bpb=1.95)
    again = trained(run)
    assert again.fingerprint == last.fingerprint
    assert night.planned(run, again) == ("reuse", night.CONVERGED)
    night.move(run, again)
    assert len(entries(run)) == 5


def test_a_better_night_and_new_data_begin_the_count_again(run: RunContext) -> None:
    for bpb in (2.0, 2.0, 1.9, 1.9):
        last = spend(run, bpb=bpb)
    assert trained(run).fingerprint != last.fingerprint
    shutil.rmtree(run.home / "store" / "train" / trained(run).fingerprint)
    spend(run, bpb=2.0, export="new data")
    assert night.trunk_of(run).chain().nights[-1].stale == 0


def test_a_line_that_has_converged_goes_on_with_new_data_from_its_trunk(run: RunContext) -> None:
    for _ in range(3):
        last = spend(run)
    assert trained(run).fingerprint == last.fingerprint
    new = spend(run, export="new data")
    assert night.trunk_of(run).chain().nights[-1].parent_folder == last.fingerprint
    assert entries(run)[-1] == new.fingerprint


def test_a_converged_night_whose_output_was_deleted_is_repeated_beside_the_trunk(run: RunContext) -> None:
    for _ in range(3):
        last = spend(run)
    shutil.rmtree(last.path)
    assert trained(run).fingerprint == last.fingerprint
    assert night.trunk_of(run).state()[1] == ""


@pytest.mark.parametrize("damage", ["garbage", "missing file", "missing folder", "chain"])
def test_a_damaged_trunk_gets_one_line_and_the_nights_begin_again(
    run: RunContext, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    train = spend(run)
    trunk = night.trunk_of(run)
    folder = trunk.path(train.fingerprint)
    if damage == "garbage":
        (folder / "optimizer.safetensors").write_text("garbage")
    elif damage == "missing file":
        (folder / "optimizer.safetensors").unlink()
    elif damage == "missing folder":
        shutil.rmtree(folder)
    else:
        (trunk.folder / "trunk.json").write_text('{"line": 1')
    caplog.clear()
    again = spend(run)
    assert again.fingerprint != train.fingerprint
    assert entries(run)[-2:] == ["random weights", again.fingerprint]
    [line] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert line.endswith("the nights begin again with random weights") and str(run.home) in line


def test_a_trained_night_whose_trunk_is_lost_begins_again(run: RunContext) -> None:
    night.begin_night(run)
    train = trained(run)
    shutil.rmtree(night.trunk_of(run).path(train.fingerprint))
    night.move(run, train)
    assert entries(run) == ["random weights", "random weights"]
    assert trained(run).fingerprint != train.fingerprint


def test_a_deleted_folder_of_trunks_is_no_fault(run: RunContext) -> None:
    train = spend(run)
    shutil.rmtree(run.home / "trunks")
    night.move(run, train)
    assert entries(run) == ["random weights"]


def test_two_lines_and_two_networks_share_no_trunk(tmp_path: Path) -> None:
    home = tmp_path / "home"
    runs = [
        context(home),
        context(home, line="support bot/é".replace("/", " ")),
        context(home, "network.width=256"),
        context(home, "markup.max_tokens=64"),
    ]
    for each in runs:
        spend(each)
    folders = [night.trunk_of(each).folder for each in runs]
    assert len(set(folders)) == 4
    assert {(each.folder, each.line) for each in trunks(home)} == {
        (folder, each.registry.model) for folder, each in zip(folders, runs, strict=True)
    }


def test_the_champion_of_an_older_home_is_the_first_trunk_if_its_network_is_the_same(tmp_path: Path) -> None:
    run = context(tmp_path / "home")
    run.registry.open_run("first", "night", {key: run.params[key] for key in SHAPE}, {})
    version = register(run.registry, model_folder(tmp_path / "model", b"weights"), "first")
    run.registry.promote(version, "the first", judged_against=None, flow_run_id=None)
    assert night.planned(run, None) == ("run", "night 1, from champion v1")
    night.begin_night(run)
    trunk = night.trunk_of(run)
    [origin] = trunk.chain().nights
    assert origin.origin == "champion v1"
    assert (trunk.path(origin.folder) / "model" / "model.safetensors").read_bytes() == b"weights"
    assert night.planned(run, None) == ("run", "night 1")
    wider = context(tmp_path / "home", "network.width=256")
    assert night.planned(wider, None) == ("run", "night 1, from random weights")
    # A promotion in the first night does not change the parent of this night.
    before = night.parent_of(run, "")
    other = register(run.registry, model_folder(tmp_path / "other", b"better"), "second")
    run.registry.promote(other, "better", judged_against=1, flow_run_id=None)
    assert night.parent_of(run, "") == before


def test_a_run_that_is_no_night_has_no_trunk(tmp_path: Path) -> None:
    run = context(tmp_path / "home", init="scratch")
    night.begin_night(run)
    night.end_night(run, Artifact("train", "f", "d", tmp_path, 1, "ran", 1.0, ""))
    assert not (run.home / "trunks").exists()


@pytest.mark.parametrize(
    ("recipe", "changes", "line"),
    [
        ("finetune", [], "recipe finetune: a pretrained network has no trunk; with --init, give champion"),
        ("quick", ["train.patience=3"], r"train\.patience=3 .* give --set train\.patience=null"),
    ],
)
def test_a_setting_that_does_not_fit_a_trunk_gets_one_line(
    recipe: str, changes: list[str], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        describe_run(configure(recipe, "sample", changes, "trunk"), Settings())
