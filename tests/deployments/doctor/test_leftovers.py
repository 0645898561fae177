"""Interrupted work that is older than a month is a fault with a remedy; work in progress is not."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from filelock import FileLock

from deployments.doctor.installation import Installation
from deployments.doctor.leftovers import leftovers
from settings import Settings


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 5_000_000)
    moment_s = time.time() - days * 86_400
    for each in (path, path.parent):
        os.utime(each, (moment_s, moment_s))
    return path


def test_what_is_left_for_a_month_is_named_and_the_remedy_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a home"
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    installation = Installation(Settings())
    assert not list(leftovers(installation))
    old = aged(home / "runs" / "old" / "metrics.jsonl", 40).parent
    new = aged(home / "runs" / "new" / "metrics.jsonl", 2).parent
    busy = home / "runs" / "busy"
    parts = home / "store" / "download" / ".partial"
    aged(parts / "corpus.part", 40)
    aged(parts / "corpus.part.json", 40)
    aged(parts / "corpus", 40)
    aged(parts / "data set" / "1234-train.jsonl.part", 40)
    aged(parts / "data set" / "1234-test.jsonl", 40)
    with FileLock(aged(busy / "lock", 40)):
        aged(busy / "lock", 40)
        training, download = leftovers(installation)
    assert (
        "a training run was interrupted, and nobody has resumed it" in training.what
        and "5.0 MB" in training.what
    )
    assert "2 downloads were interrupted, and nobody has resumed them" in download.what
    for fault in (training, download):
        subprocess.run(["bash", "-c", fault.remedy], check=True)
    assert not old.exists() and new.exists() and busy.exists()
    left = sorted(each.name for each in parts.rglob("*") if each.is_file())
    assert left == ["1234-test.jsonl", "corpus"]
