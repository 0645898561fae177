import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from models.training import checkpoint

STATE = {"step": 3, "best_bpb": 1.5}


def tensors(value: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"a.weight": torch.full((3, 4), value), "b": torch.tensor(2.0)},
        "optimizer": {"0.1.step": torch.tensor(7.0)},
        "best": {},
    }


def save(folder: Path, step: int, key: str = "k") -> Path:
    checkpoint.save(folder, step, tensors(step), {**STATE, "step": step}, key=key)
    return folder / f"{step:09d}"


def newest(folder: Path, key: str = "k") -> Any:
    found = checkpoint.load_newest(folder, key=key)
    return found and found.state["step"]


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = tensors(3)
    checkpoint.save(tmp_path, 3, saved, STATE, key="k")
    found = checkpoint.load_newest(tmp_path, key="k")
    assert found is not None
    assert found.state == STATE
    assert {name: set(group) for name, group in found.tensors.items()} == {
        n: set(g) for n, g in saved.items()
    }
    for name, group in saved.items():
        assert all(torch.equal(found.tensors[name][key], value) for key, value in group.items())


def test_no_folder_and_an_empty_one_hold_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "none") is None


def test_the_newest_is_taken_and_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save(tmp_path, step)
    assert newest(tmp_path) == 11
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010", "000000011"]


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "empty"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "complete.json"]
)
def test_a_torn_checkpoint_is_passed_over_by_name(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        flipped = data[:-1] + bytes([data[-1] ^ 1])  # in a tensor, only the checksum shows the damage
        path.write_bytes({"cut": data[: len(data) // 2], "flip": flipped, "empty": b""}[damage])
    assert newest(tmp_path) == 1
    assert "000000002 is ignored" in caplog.text


def test_where_all_are_torn_there_is_none(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step) / "state.json").unlink()
    assert newest(tmp_path) is None


def test_a_checkpoint_of_another_training_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 5, key="other")
    assert newest(tmp_path) is None
    assert "a different configuration" in caplog.text


def test_saving_an_earlier_step_lets_go_of_the_later_ones(tmp_path: Path) -> None:
    save(tmp_path, 50, key="other")
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert newest(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001", "000000002"]


def test_a_step_saved_twice_is_there_once(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]


@pytest.mark.parametrize("fails_at", range(7))
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_half_made(
    tmp_path: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    calls = 0

    def fsync(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    message = r"the disk is full: a checkpoint takes 104 bytes and [\d,]+ are free"
    with pytest.raises(OSError, match=message):
        save(tmp_path, 2)
    assert not list(tmp_path.glob(".tmp-*"))
    assert newest(tmp_path) in (1, 2)  # 2 if only the last call has failed, which comes after the rename
    assert (tmp_path / "000000001").is_dir()


def test_what_a_killed_writer_left_is_swept_and_never_read(tmp_path: Path) -> None:
    save(tmp_path, 1)
    left = tmp_path / ".tmp-99999"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert newest(tmp_path) == 1
    save(tmp_path, 2)
    assert not left.exists()


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def test_a_pickle_is_never_read_whatever_its_name(tmp_path: Path) -> None:
    folder, canary = save(tmp_path, 1), tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    for name in ("model.safetensors", "model.pt", "state.json"):
        (folder / name).write_bytes(bomb)
    assert newest(tmp_path) is None
    # A pickle is not read even if complete.json lists it with the correct checksum.
    known = {"model.safetensors": checkpoint._write(folder / "model.safetensors", bomb)}
    checkpoint.put_json(folder / "complete.json", {"key": "k", "files": known})
    assert newest(tmp_path) is None
    assert not canary.exists()


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"key": "k"}', '{"key": "k", "files": {"../x": [1, "a"]}}', "3"]
)
def test_a_list_of_files_of_another_shape_is_passed_over(tmp_path: Path, content: str) -> None:
    (save(tmp_path, 1) / "complete.json").write_text(content)
    assert newest(tmp_path) is None
