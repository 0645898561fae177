"""What is read of files that arrive one after another is what is read of all of them at once."""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import many_files
import pytest

from models.errors import DataRejected

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(many_files.contents())


def shards_of(home: Path) -> dict[str, int]:
    """The shards that are stored, and when each of them was built."""
    return {path.parent.name: path.stat().st_mtime_ns for path in home.glob("store/shards/*/manifest.json")}


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("all")
    return many_files.parse(many_files.download(folder / "download", NAMES), folder / "out")


@pytest.mark.parametrize("seed", range(20))
def test_files_in_any_order_of_arrival_give_the_same_bytes_as_all_at_once(
    tmp_path: Path, all_at_once: dict[str, bytes], seed: int
) -> None:
    rng = random.Random(seed)
    order = rng.sample(NAMES, len(NAMES))
    home, number = tmp_path / "home", 0
    found: dict[str, bytes] = {}
    while number < len(order):
        number += rng.randint(1, 5)
        files = many_files.download(tmp_path / f"download-{number}", order[:number])
        with suppress(DataRejected):  # the first files may hold no conversations
            found = many_files.parse(files, tmp_path / f"out-{number}", home)
    assert found == all_at_once


def test_only_a_new_file_is_read_and_a_removed_one_takes_only_its_own_turns_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for step, names in enumerate([NAMES[:-1], NAMES, NAMES[:3] + NAMES[4:]]):
        files = many_files.download(tmp_path / f"download-{step}", names)
        before = shards_of(home)
        with_shards = many_files.parse(files, tmp_path / f"out-{step}", home)
        assert with_shards == many_files.parse(files, tmp_path / f"anew-{step}")
        new = shards_of(home).items() - before.items()
        assert len(new) == (len(NAMES) - 2, 1, 0)[step]  # a small file has no shard


def test_a_damaged_shard_is_read_again_from_its_file(
    tmp_path: Path, all_at_once: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    home, files = tmp_path / "home", many_files.download(tmp_path / "download", NAMES)
    many_files.parse(files, tmp_path / "first", home)
    before = shards_of(home)
    one, two, three, *_ = sorted(before)
    store = home / "store" / "shards"
    (store / one / "turns.parquet").write_bytes(b"")
    (store / two / "counts.json").unlink()
    (store / three / "manifest.json").write_text("{")
    assert many_files.parse(files, tmp_path / "second", home) == all_at_once
    assert len(shards_of(home).items() - before.items()) == 3
    assert sum("this shard is built again" in record.message for record in caplog.records) == 3


def test_a_file_with_another_name_is_another_shard(tmp_path: Path) -> None:
    text = many_files.contents()["e.txt"]
    home = tmp_path / "home"
    for number, name in enumerate(("one.txt", "two.txt"), 2):
        files = many_files.download_of(tmp_path / name, **{name: text, "other.txt": text})
        assert many_files.parse(files, tmp_path / f"{name}-out", home) == many_files.parse(
            files, tmp_path / f"{name}-anew"
        )
        assert len(shards_of(home)) == number


def killed(files: Path, home: Path, dies_at: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, many_files.__file__, str(files), str(home), str(dies_at)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_killed_at_any_moment_the_next_run_reads_the_same(
    tmp_path: Path, all_at_once: dict[str, bytes]
) -> None:
    files = many_files.download(tmp_path / "download", NAMES)
    changes = int(killed(files, tmp_path / "whole", 0).stdout)
    assert changes > 50
    for number in random.Random(0).sample(range(1, changes), 5):
        home = tmp_path / str(number)
        assert killed(files, home, number).returncode == -signal.SIGKILL
        assert many_files.parse(files, tmp_path / f"out-{number}", home) == all_at_once


def test_two_processes_that_read_the_same_files_at_once_share_the_shards(
    tmp_path: Path, all_at_once: dict[str, bytes]
) -> None:
    files, homes = many_files.download(tmp_path / "download", NAMES), tmp_path / "home"
    words = [sys.executable, many_files.__file__, str(files), str(homes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([*words, number], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        for number in ("-1", "-2")
    ]
    assert [process.wait() for process in both] == [0, 0]
    for number in ("-1", "-2"):
        out = tmp_path / f"home-out-{number}"
        assert {path.name: path.read_bytes() for path in out.iterdir()} == all_at_once
    assert len(shards_of(homes)) == len(NAMES) - 1
