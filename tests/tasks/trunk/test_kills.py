"""A trunk that is killed while it moves has either moved or not, and the same command completes the move."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import night_moves

ROOT = Path(__file__).resolve().parents[3]


def move(home: Path, dies_at: int = 0) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, night_moves.__file__, str(home), str(dies_at)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def folders(home: Path) -> set[str]:
    return {path.name for path in night_moves.trunk_of(home).path("").iterdir()}


def test_killed_before_any_change_of_a_file_the_trunk_is_whole_and_the_move_is_completed(
    tmp_path: Path,
) -> None:
    before = tmp_path / "before"
    for name, parent in (("first", ""), ("second", "first"), ("third", "second")):
        night_moves.leave(before, name)
        if name != "third":
            night_moves.move(before, name, parent)
    shutil.copytree(before, tmp_path / "whole")
    changes = int(move(tmp_path / "whole").stdout)
    assert changes > 15
    for number in range(1, changes + 1):
        home = shutil.copytree(before, tmp_path / str(number))
        assert move(home, number).returncode == -signal.SIGKILL
        chain, damage = night_moves.trunk_of(home).state()
        assert damage == "", number
        assert [each.folder for each in chain.nights] in (["first", "second"], ["first", "second", "third"])
        assert move(home).returncode == 0
        chain, damage = night_moves.trunk_of(home).state()
        assert ([each.folder for each in chain.nights], damage) == (["first", "second", "third"], ""), number
        assert {"second", "third"} <= folders(home) <= {"first", "second", "third"}, number
