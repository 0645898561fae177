"""The supervisor recognises processes that another supervisor has left behind, restarts those that hang, and
rotates logs."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deployments.local import supervisor
from deployments.local.processes import answers, commands_of, is_service
from deployments.local.services import Service
from deployments.local.supervisor import Supervisor, rotate

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


def test_a_program_that_is_no_web_server_does_not_count_as_an_answer() -> None:
    def say_hello(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"220 mail.example ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=say_hello, args=[server])
        thread.start()
        assert not answers(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


def test_without_ps_nothing_is_taken_for_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_service(os.getpgid(0), tmp_path)


SILENT = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
"""A server that accepts connections but never answers."""


@pytest.mark.parametrize(("loop", "is_restarted"), [("time.sleep(999)", True), ("while True: pass", False)])
def test_a_server_that_does_not_answer_is_restarted_only_if_it_does_not_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, is_restarted: bool
) -> None:
    monkeypatch.setattr(supervisor, "HEALTH_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "START_SECONDS", 0)
    monkeypatch.setattr(supervisor, "MAX_MISSED_HEALTH_CHECKS", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SILENT + loop, str(port)]
    with Supervisor(tmp_path) as services:
        services.start(Service("server", command, health=f"http://127.0.0.1:{port}/health"))
        managed = services.managed["server"]
        first = managed.process.pid
        thread = threading.Thread(target=services.monitor)
        thread.start()
        deadline_s = time.monotonic() + (600 if is_restarted else 12)
        while managed.process.pid == first and time.monotonic() < deadline_s:
            time.sleep(0.1)
        missed = managed.missed_checks
        services.stop.set()
        thread.join()
        assert (managed.process.pid != first) == is_restarted
        assert is_restarted or missed > 2
