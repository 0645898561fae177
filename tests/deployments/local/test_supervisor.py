"""The supervisor recognises processes that another supervisor has left behind, and rotates logs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.local import supervisor
from deployments.local.processes import commands_of, is_service
from deployments.local.supervisor import rotate

PORTABLE = """#!/bin/sh
for word in "$@"; do
    case "$word" in -A | -w | -o | pgid= | args=) ;; *) echo "ps: illegal option: $word" >&2; exit 1 ;; esac
done
exec {ps} "$@"
"""


def test_a_service_that_was_left_is_known_by_its_group_with_what_every_ps_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ps = tmp_path / "ps"
    ps.write_text(PORTABLE.format(ps=shutil.which("ps")))
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    waits = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(
            [*waits, "deployments.local.child", str(tmp_path), "mlflow"],
            stdin=subprocess.PIPE,
            start_new_session=True,
        ) as ours,
        subprocess.Popen(waits, stdin=subprocess.PIPE, start_new_session=True) as another,
    ):
        assert is_service(ours.pid, tmp_path)
        assert not is_service(ours.pid, tmp_path.parent) and not is_service(ours.pid, tmp_path / "another")
        assert not is_service(another.pid, tmp_path)
        assert [command.split()[-1] for command in commands_of(ours.pid)] == ["mlflow"]
        for process in (ours, another):
            process.communicate(b"\n")
    assert not is_service(ours.pid, tmp_path)


def test_a_log_that_has_grown_large_begins_again_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 1000)
    path = tmp_path / "worker.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 900 + b"\n")
        rotate(path)
        assert not (tmp_path / "worker.log.1").exists()
        writer.write(b"y" * 200 + b"\n")
        rotate(path)
        writer.write(b"the next line\n")
    assert path.read_text() == "the next line\n"
    assert (tmp_path / "worker.log.1").read_text().endswith("y\n")
    rotate(tmp_path / "missing.log")


def test_without_ps_nothing_is_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_service(os.getpgid(0), tmp_path)
