"""`repartee down` when the state file of the services is missing or names no process."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[3]
SUPERVISOR = """
import sys
from pathlib import Path
from deployments.local.processes import STOP_SIGNALS
from deployments.local.supervisor import Supervisor
from models.processes import stop_on_signals

with Supervisor(Path(sys.argv[1])) as supervisor:
    stop_on_signals(supervisor.stop, STOP_SIGNALS)
    print("up", flush=True)
    supervisor.monitor()
"""
DOWN = "import deployments.local.up as up; up.STATE_SECONDS = 3; print(up.down())"


def down(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", DOWN],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(home)},
        capture_output=True,
        text=True,
        start_new_session=True,  # so that a stray signal reaches only this process
    )


def test_down_ends_the_services_though_their_state_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        (tmp_path / "services" / "state.json").unlink()
        ended = down(tmp_path)
        assert (ended.returncode, ended.stdout) == (0, "down: every service has ended\n"), ended.stderr
        assert process.wait(10) == 0


@pytest.mark.parametrize("state", [None, "{", "[]", '{"pid": 0, "services": {}}', '{"pid": "x"}'])
def test_down_signals_nobody_where_the_state_names_no_process(tmp_path: Path, state: str | None) -> None:
    (tmp_path / "services").mkdir()
    lock = tmp_path / "services" / "up.lock"
    if state is not None:
        (tmp_path / "services" / "state.json").write_text(state)
    with FileLock(lock):
        ended = down(tmp_path)
    assert ended.returncode == 1 and f"fuser -k -TERM {shlex.quote(str(lock))}" in ended.stderr
