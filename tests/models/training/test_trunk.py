"""Nights of a trunk: each continues the undecayed checkpoint of the night before, and cools a copy of it down."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import killings
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from trainings import StopAt, examples, lines, run_folder, train, weights

from models.errors import InputError
from models.text import tokenizer
from models.training import trainer
from models.training.run_folder import Run
from models.training.trunk import files as trunk_files
from models.training.trunk.files import TrunkState

NIGHT = {"max_steps": 40, "max_epochs": 50, "warmup_steps": 4, "log_every": 1, "learning_rate": 2e-2}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def night(data: Path, folder: Path, parent: Path | None = None, **settings: Any) -> Path:
    """The run folder of a night that continues the trunk in the run folder `parent`."""
    run_folder(data, folder, **{**NIGHT, **settings})
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["night"] = {"parent": None}
    if parent is not None:
        trunk = parent / "trunk"
        config |= {"night": {"parent": str(trunk)}, "start": str(trunk / "model")}
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = night(data, tmp_path_factory.mktemp("first") / "run")
    assert train(folder)
    return folder


@pytest.fixture(scope="module")
def second(data: Path, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = night(data, tmp_path_factory.mktemp("second") / "run", first)
    assert train(folder)
    return folder


def rates(folder: Path) -> list[float]:
    return [line["learning_rate"] for line in lines(folder, "step")]


def test_a_night_warms_up_stays_at_the_full_rate_and_cools_down_in_its_last_quarter(first: Path) -> None:
    full = json.loads((first / "config.json").read_text())["train"]["learning_rate"]
    assert rates(first)[:4] == pytest.approx([full / 4, full / 2, full * 3 / 4, full])
    assert rates(first)[4:31] == pytest.approx([full] * 27)
    assert rates(first)[31:] == pytest.approx([full * (1 - (done / 10) ** 0.5) for done in range(1, 10)])


def test_the_next_night_is_at_the_full_rate_from_its_first_step(first: Path, second: Path) -> None:
    assert rates(second)[:31] == pytest.approx([max(rates(first))] * 31)


def test_a_night_begins_with_the_weights_and_the_optimizer_state_of_the_night_before(
    first: Path, second: Path
) -> None:
    """The trunk is the checkpoint of the branch, before the cool-down."""
    assert TrunkState.read(first / "trunk" / "state.json").steps == 30
    assert TrunkState.read(second / "trunk" / "state.json").steps == 60
    undecayed = (first / "trunk" / "model" / "model.safetensors").read_bytes()
    assert undecayed != weights(first)
    begins = lines(second, "step")[0]["loss"]
    ends = sum(line["loss"] for line in lines(first, "step")[26:30]) / 4
    assert begins == pytest.approx(ends, abs=0.35)


def test_nights_add_up(first: Path, second: Path) -> None:
    scores = [json.loads((folder / "summary.json").read_text())["trunk_bpb"] for folder in (first, second)]
    assert scores[1] < scores[0] - 0.1


def test_the_next_night_goes_on_at_the_batch_after_the_last_one_of_the_trunk(
    first: Path, second: Path, data: Path
) -> None:
    """No example is repeated before the epoch is complete."""
    state = TrunkState.read(first / "trunk" / "state.json")
    epochs = [line["epoch"] for line in lines(second, "step")]
    per_epoch = round(1 / (epochs[1] - epochs[0]))
    assert state.epoch * per_epoch + state.batch_index == 30
    assert epochs[0] == pytest.approx((state.batch_index + 1) / per_epoch)
    trunk = TrunkState.read(second / "trunk" / "state.json")
    assert trunk.epoch * per_epoch + trunk.batch_index == 60


def test_other_data_begin_a_new_epoch(first: Path, data: Path, tmp_path: Path) -> None:
    grown = shutil.copytree(data, tmp_path / "grown")
    pq.write_table(examples(90, 0, "train"), grown / "examples" / "train.parquet")
    folder = night(grown, tmp_path / "run", first, max_steps=8)
    assert train(folder)
    state, before = (TrunkState.read(each / "trunk" / "state.json") for each in (folder, first))
    assert (state.epoch, state.batch_index, state.steps) == (before.epoch + 1, 6, 36)


@pytest.mark.parametrize("step", [3, 29, 30, 31, 38])
def test_a_night_that_is_stopped_at_any_step_ends_with_the_same_trunk_and_the_same_model(
    data: Path, first: Path, second: Path, tmp_path: Path, step: int
) -> None:
    folder = night(data, tmp_path / "run", first)
    assert not trainer.train(folder, StopAt(step))
    assert train(folder)
    assert weights(folder) == weights(second)
    assert trunk_files.digest_of(folder / "trunk") == trunk_files.digest_of(second / "trunk")


def test_a_trunk_that_was_written_before_a_kill_is_written_again(
    data: Path, first: Path, second: Path, tmp_path: Path
) -> None:
    """The kill came between the trunk and the checkpoint that records it."""
    folder = night(data, tmp_path / "run", first)
    assert not trainer.train(folder, StopAt(10))
    shutil.copytree(first / "trunk", folder / "trunk")
    (folder / ".tmp-trunk").mkdir()
    assert train(folder)
    assert trunk_files.digest_of(folder / "trunk") == trunk_files.digest_of(second / "trunk")
    assert not list(folder.glob(".tmp-*"))


def test_a_night_resumes_no_checkpoint_of_a_night_with_another_parent(
    data: Path, first: Path, second: Path, tmp_path: Path
) -> None:
    keys = {
        Run.read(night(data, tmp_path / name, parent)).key()
        for name, parent in (("none", None), ("first", first), ("second", second))
    }
    assert len(keys) == 3


def test_new_words_get_rows_in_the_weights_and_in_the_optimizer_state(
    first: Path, data: Path, tmp_path: Path
) -> None:
    renamed = shutil.copytree(data, tmp_path / "renamed")
    learnt = tokenizer.learn_words(["a b c d e f g h i j k l m n o p qq"], min_count=1)
    tokenizer.save(learnt, [1.0] * 257, renamed / "tokenizer")
    folder = night(renamed, tmp_path / "run", first, max_steps=4)
    assert train(folder)
    before, after = (load_file(each / "trunk" / "optimizer.safetensors") for each in (first, folder))
    assert before.keys() == after.keys()
    table = next(name for name in after if name.startswith("lm_head") and name.endswith("exp_avg"))
    assert len(after[table]) == len(before[table]) + 1
    assert rates(folder)[0] == pytest.approx(max(rates(first)))


def test_another_optimizer_begins_without_state_and_warms_up(first: Path, data: Path, tmp_path: Path) -> None:
    folder = night(data, tmp_path / "run", first, optimizer="adamw", max_steps=20)
    assert train(folder)
    assert rates(folder)[0] < max(rates(folder))
    assert TrunkState.read(folder / "trunk" / "state.json").steps == 15


def test_weights_without_optimizer_state_warm_up(first: Path, data: Path, tmp_path: Path) -> None:
    """Such a trunk is the copy of a champion."""
    origin = tmp_path / "origin" / "trunk"
    shutil.copytree(first / "model", origin / "model")
    trunk_files.seal(origin)
    folder = night(data, tmp_path / "run", origin.parent, max_steps=20)
    assert train(folder)
    assert rates(folder)[0] < max(rates(folder))
    assert lines(folder, "step")[0]["loss"] < lines(first, "step")[0]["loss"] - 0.3


def test_a_plain_training_writes_no_trunk(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", max_steps=4)
    assert train(folder)
    assert not (folder / "trunk").exists()
    assert json.loads((folder / "summary.json").read_text())["trunk_bpb"] is None


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove", "complete"])
def test_a_damaged_trunk_is_named(first: Path, tmp_path: Path, damage: str) -> None:
    trunk = shutil.copytree(first / "trunk", tmp_path / "trunk")
    path = trunk / "optimizer.safetensors"
    data = path.read_bytes()
    if damage == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "shorten":
        path.write_bytes(data[:-1])
    elif damage == "remove":
        path.unlink()
    else:
        path = trunk / "complete.json"
        path.write_text("{")
    with pytest.raises(trunk_files.DamagedTrunk, match=path.name):
        trunk_files.digest_of(trunk)


def test_a_night_with_a_damaged_trunk_ends_with_one_line(first: Path, data: Path, tmp_path: Path) -> None:
    trunk = shutil.copytree(first / "trunk", tmp_path / "parent" / "trunk")
    (trunk / "optimizer.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"optimizer\.safetensors"):
        train(night(data, tmp_path / "run", trunk.parent))


@pytest.mark.soak
def test_killed_at_a_change_to_its_folder_a_night_ends_with_the_same_trunk(
    data: Path, first: Path, tmp_path: Path
) -> None:
    knobs = {"max_steps": 4, "validations": 1, "checkpoint_seconds": 1e9}
    whole = night(data, tmp_path / "whole", first, **knobs)
    process = killings.start(whole, counts_into=tmp_path / "count")
    process.join()
    changes = int((tmp_path / "count").read_text())
    assert changes > 60
    for number in range(2, changes + 1, 5):
        folder = night(data, tmp_path / str(number), first, **knobs)
        killed = killings.start(folder, dies_at=number)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL, number
        again = killings.start(folder)
        again.join()
        assert again.exitcode == 0, number
        assert weights(folder) == weights(whole), number
        assert trunk_files.digest_of(folder / "trunk") == trunk_files.digest_of(whole / "trunk"), number
        assert not list(folder.rglob(".tmp-*")), number
