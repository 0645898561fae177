"""`repartee doctor` finds faults that are planted in a real installation, and its remedies fix them."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import venv
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from installation import ROOT, Shell, remedies, until

from deployments.local.processes import answers


@pytest.fixture
def patient(tmp_path):
    return Shell(tmp_path / "home", tmp_path / "bin")


def test_a_healthy_home_is_said_to_be_one_and_every_check_says_what_holds(patient):
    done = patient.shell("repartee doctor")
    assert done.returncode == 0, done.stderr
    assert "nothing is wrong" in done.stdout and "FAULT" not in done.stdout
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines() if line)


def test_unsafe_switches_and_a_server_that_is_gone_are_found_and_their_remedies_work(patient):
    planted = {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "TRUE",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*",
        "PREFECT_API_URL": "http://127.0.0.1:1/api",
    }
    found = patient.faults(**planted)
    assert {name: len(faults) for name, faults in found.items()} == {"switches": 2, "services": 1}
    assert "127.0.0.1:1" in found["services"][0]["what"]
    assert patient.faults(before=remedies(found), **planted) == {}


def test_a_port_in_a_strangers_hands_is_found_and_its_remedy_works(patient):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    services = patient.home / "services"
    services.mkdir(parents=True)
    state = {
        "pid": 0,
        "services": {"mlflow": {"pid": 0, "address": f"http://127.0.0.1:{port}", "health": ""}},
    }
    (services / "state.json").write_text(json.dumps(state))
    stranger = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"])
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}"))
        found = patient.faults()
        assert str(port) in found["ports"][0]["what"]
        patient.shell(remedies({"ports": found["ports"]}))
        stranger.wait(10)
        assert patient.faults().get("ports") is None
    finally:
        stranger.kill()


@pytest.mark.parametrize("name", ["mlflow.db", "prefect/prefect.db"])
def test_a_damaged_database_is_found_and_its_remedy_works(patient, new_home, name):
    new_home(patient.home)
    whole = (patient.home / "mlflow.db").read_bytes()
    path = patient.home / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole[:8192] + b"garbage" * 2048 + whole[8192 + 7 * 2048 :])
    found = patient.faults()
    assert str(path) in found["databases"][0]["what"]
    assert patient.shell(remedies({"databases": found["databases"]})).returncode == 0
    assert patient.faults() == {}
    assert path.with_name(f"{path.name}.damaged").exists(), "nothing is thrown away"


def test_a_home_that_cannot_be_written_is_found(patient, tmp_path):
    (tmp_path / "file").write_text("")
    found = patient.faults(REPARTEE_HOME=str(tmp_path / "file"))
    assert "set REPARTEE_HOME" in found["home"][0]["what"]


SHARED_LOCKS = """
import fcntl, os
really = fcntl.flock
def flock(file, how):
    if not os.readlink(f"/proc/self/fd/{file}").startswith(os.environ["SHARED"]):
        really(file, how)
fcntl.flock = flock
"""


def test_a_file_system_whose_locks_do_not_exclude_is_found_and_its_remedy_works(patient, tmp_path):
    patient.home.mkdir()  # the doctor creates no home, and checks no locks without one
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SHARED_LOCKS)
    planted = {"PYTHONPATH": str(tmp_path / "site"), "SHARED": str(patient.home)}
    found = patient.faults(**planted)
    assert "two training runs could start at the same time" in found["locks"][0]["what"]
    remedy = found["locks"][0]["remedy"].replace("/a/folder/on/a/local/disk", str(tmp_path / "other"))
    assert patient.faults(before=remedy, **planted) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_nearly_full_is_found_and_its_remedy_works(patient):
    patient.home.mkdir()
    mounted = patient.shell(f"mount -t tmpfs -o size=1000m none {patient.home}")
    if mounted.returncode:
        pytest.skip(f"this machine mounts nothing: {mounted.stderr}")
    try:
        (patient.home / "store").mkdir()
        patient.shell(f"fallocate -l 100M {patient.home}/store/made")
        found = patient.faults()
        assert "MB are free" in found["disk"][0]["what"]
        patient.shell(remedies({"disk": found["disk"]}))
        assert patient.faults() == {}
    finally:
        patient.shell(f"umount {patient.home}")


def test_a_gpu_that_torch_cannot_use_is_found(patient):
    (patient.commands / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-0)'\n")
    (patient.commands / "nvidia-smi").chmod(0o755)
    found = patient.faults(CUDA_VISIBLE_DEVICES="")
    assert found["gpu"][0]["what"].startswith("NVIDIA H100 is present, but torch 2.")


def wheel(folder, version):
    """Write an empty SQLAlchemy wheel that only declares its version."""
    info = f"sqlalchemy-{version}.dist-info"
    with zipfile.ZipFile(folder / f"sqlalchemy-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: SQLAlchemy\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_a_version_that_is_known_to_break_is_found_and_its_remedy_works(patient, tmp_path):
    for version in ("2.1.0", "2.0.99"):
        wheel(tmp_path, version)
    venv.create(tmp_path / "venv", symlinks=True)
    patient.python = str(tmp_path / "venv" / "bin" / "python")
    ours = [path for path in sys.path if path.endswith("-packages")]
    site = patient.shell(
        f"{patient.python} -c 'import site; print(site.getsitepackages()[0])'"
    ).stdout.strip()
    (Path(site) / "ours.pth").write_text("\n".join([*ours, str(ROOT)]))
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_FIND_LINKS": str(tmp_path)}
    planted = patient.shell(f"{patient.python} -m pip install sqlalchemy==2.1.0", **offline)
    assert planted.returncode == 0, planted.stderr
    found = patient.faults()
    assert "SQLAlchemy" in found["packages"][0]["remedy"] or "sqlalchemy" in found["packages"][0]["remedy"]
    assert "2.1.0 is installed" in found["packages"][0]["what"]
    mended = patient.shell(remedies(found), **offline)
    assert mended.returncode == 0, mended.stderr
    assert patient.faults() == {}


@pytest.fixture
def clock():
    """A server whose clock can be set to a number of seconds off the correct time."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return super().date_time_string((timestamp or time.time()) + server.off_s)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.off_s = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_server_whose_clock_is_wrong_is_found(patient, clock):
    url = f"http://127.0.0.1:{clock.server_port}/api"
    clock.off_s = -3600
    found = patient.faults(PREFECT_API_URL=url)["clock"]
    assert (
        "behind the clock of this machine" in found[0]["what"]
        and found[0]["remedy"] == "timedatectl set-ntp true"
    )
    clock.off_s = 0
    assert "clock" not in patient.faults(PREFECT_API_URL=url)
