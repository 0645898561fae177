"""Tests with real processes: ending a child, ending together with the parent, and ending on a signal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.processes import end_process

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def started(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # Z: the process has ended, and its new parent has not yet waited for it


def test_a_child_that_ends_when_asked_to_is_not_killed() -> None:
    with started("import time; print('up', flush=True); time.sleep(600)") as process:
        assert line(process) == "up"
        end_process(process, grace_s=60)
        assert process.returncode == -signal.SIGTERM


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="reads the process list in /proc, which only Linux has"
)
def test_a_child_that_ignores_the_request_is_killed_with_its_whole_group() -> None:
    with started(STUBBORN) as process:
        grandchild = int(line(process))
        end_process(process, grace_s=0.2, group=True)
        assert process.returncode == -signal.SIGKILL
        deadline_s = time.monotonic() + 60
        while is_alive(grandchild):
            assert time.monotonic() < deadline_s, "a process of the group is still running"
            time.sleep(0.05)


def test_a_child_that_has_ended_already_is_no_error() -> None:
    with started("") as process:
        process.wait(60)
        end_process(process, grace_s=0.2)
        end_process(process, grace_s=0.2, group=True)
        assert process.returncode == 0


def test_an_action_is_done_as_soon_as_the_parent_closes_the_pipe() -> None:
    program = (
        "import os, time; from models.processes import when_parent_ends;"
        "when_parent_ends(lambda: os._exit(7)); print('up', flush=True); time.sleep(600)"
    )
    with started(program) as process:
        assert line(process) == "up" and process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 7


@pytest.mark.parametrize(("second_ends", "status"), [(False, 0), (True, -signal.SIGTERM)])
def test_a_second_signal_ends_the_process_only_where_that_is_asked_for(
    second_ends: bool, status: int
) -> None:
    program = f"""
import sys, threading
from models.processes import stop_on_signals
stop = threading.Event()
received = stop_on_signals(stop, second_ends={second_ends})
print("up", flush=True)
stop.wait()
print(*map(int, received), flush=True)
sys.stdin.read()
"""
    with started(program) as process:
        assert line(process) == "up"
        os.kill(process.pid, signal.SIGTERM)
        assert line(process) == "15"
        os.kill(process.pid, signal.SIGTERM)
        if not second_ends:
            assert process.stdin is not None
            process.stdin.close()
        assert process.wait(60) == status
