"""Who is up in a home, asked while others ask, while files vanish, and where the state is gone."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from deployments.disk import size_text, used_bytes
from deployments.local.services import take_port
from deployments.local.supervisor import await_up
from services_state import SupervisorState, running_services
from settings import Settings

ROOT = Path(__file__).resolve().parents[2]
KEEPS = """
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
        start_new_session=True,  # what it signals by mistake is itself
    )


def test_down_ends_the_services_though_their_state_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KEEPS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
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


def test_a_home_at_which_another_looks_is_not_up(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "state.json").write_text('{"pid": 1, "services": {}}')
    assert running_services(tmp_path) is None
    with (tmp_path / "services" / "up.lock").open("w") as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert running_services(tmp_path) is None
        fcntl.flock(another, fcntl.LOCK_EX)
        assert running_services(tmp_path) == SupervisorState(pid=1)


def test_the_disk_is_counted_while_files_vanish(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            for number in range(20):
                (folder / str(number)).touch()
            for number in range(20):
                (folder / str(number)).unlink()
            folder.rmdir()

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert {used_bytes(tmp_path) for _ in range(300)} == {5}
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_name_that_another_user_has_taken_stops_no_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    taken = tmp_path / f"repartee-ports-{os.getuid()}"
    if os.geteuid() == 0:
        taken.mkdir(mode=0o700)
        os.chown(taken, 65534, 65534)
    else:
        taken.symlink_to("/")
    _, lock = take_port(0)
    assert Path(lock.lock_file).parent == tmp_path / f"{taken.name}-1"
    lock.release()


def test_nobody_is_sent_to_a_server_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path))
    (tmp_path / "services").mkdir()
    state = tmp_path / "services" / "state.json"
    service = {"pid": 1, "address": "http://127.0.0.1:1", "health": "http://127.0.0.1:1/health"}

    def says(starting: bool) -> None:
        services = {name: {**service, "starting": starting} for name in ("prefect", "mlflow")}
        state.with_suffix(".new").write_text(json.dumps({"pid": 1, "services": services}))
        state.with_suffix(".new").replace(state)

    with FileLock(tmp_path / "services" / "up.lock"):
        says(starting=True)
        assert Settings().tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
        assert Settings().prefect_url is None
        is_up = threading.Timer(0.5, says, [False])
        is_up.start()
        await_up(tmp_path)
        is_up.join()
        assert Settings().tracking_uri == "http://127.0.0.1:1"
        assert Settings().prefect_url == "http://127.0.0.1:1/api"


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 kB"), (65_012_345, "65.0 MB"), (79_310_000_000, "79.3 GB")]
)
def test_a_size_is_in_a_unit_that_tells_it(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
