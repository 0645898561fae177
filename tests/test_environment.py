"""Tests of the environment variables that the libraries find in each of our processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from environment import LOGGED

ROOT = Path(__file__).resolve().parent.parent

PROXIES = {f"{scheme}_PROXY": "http://127.0.0.1:9" for scheme in ("HTTP", "HTTPS", "ALL")}
LOOK = """
from environment import quiet_environment
quiet_environment()
import urllib.request, sys
print([urllib.request.proxy_bypass(host) for host in sys.argv[1:]])
"""


def bypassed(*hosts, **env):
    """For each host, whether a process with this environment reaches it without the proxy."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *hosts],
        env={**clean, **PROXIES, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word == "True" for word in done.stdout.strip("[]\n").split(", ")]


def test_the_servers_of_this_machine_are_reached_without_the_proxy_and_others_through_it():
    hosts = ("127.0.0.1", "localhost", "::1", "data.example")
    assert bypassed(*hosts) == [True, True, True, False]


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_the_hosts_that_the_user_excepted_stay_excepted(name):
    assert bypassed("127.0.0.1", "corp.example", **{name: "corp.example"}) == [True, True]
    assert bypassed("127.0.0.1", "data.example", **{name: "*"}) == [True, True]


@pytest.mark.parametrize("client", ["httpx", "httpx2"])
def test_a_socks_proxy_of_the_office_hinders_no_client(client):
    """The HTTP clients set up a transport for the proxy even if no request uses the proxy."""
    program = f"import {client}; {client}.Client().close()"
    environment = {**os.environ, "ALL_PROXY": "socks5://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("module", ["deployments.install", "deployments.worker", "deployments.serve"])
def test_a_team_server_that_is_not_there_is_one_line(module, tmp_path):
    environment = {
        **os.environ,
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "REPARTEE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("repartee: the Prefect server at http://127.0.0.1:9/api (PREFECT_API_URL)")
    assert len(done.stderr.splitlines()) == 1


FLOW = """
import prefect.main  # a worker, like many other programs, has already read Prefect's settings
from flows.prepare import prepare
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogWorker

prepare("quick", settings="download.sample_turns=3000, vocabulary.size=600")
APILogWorker.drain_all(timeout=60)
with get_client(sync_client=True) as client:
    print(*(each.message for each in client.read_logs()), sep="\\n")
"""


@pytest.mark.flow
def test_a_flow_called_from_python_logs_what_its_stages_say_and_phones_nobody(tmp_path):
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "REPARTEE_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240",
    }
    done = subprocess.run([sys.executable, "-c", FLOW], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("parse: 3,000 turns in ") for line in lines), lines
    assert "telemetry" not in done.stderr


@pytest.mark.parametrize(
    "module", ["deployments.install", "deployments.worker", "deployments.serve", "flows"]
)
def test_a_door_has_the_environment_before_it_starts_anything(module):
    program = f"import {module}, os, logging; print(os.environ.get('DO_NOT_TRACK'), logging.getLogger('tasks').level)"
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["true", "20"], done.stderr


def test_whatever_a_stage_runs_is_in_the_parts_whose_lines_reach_the_logs_of_the_run():
    packages = ("tasks", "corpus", "models", "flows", "chat")
    logs = {
        package
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if "getLogger(__name__)" in path.read_text()
    }
    assert logs <= set(LOGGED)


def test_a_server_that_is_none_of_ours_is_started_in_the_environment(tmp_path):
    (tmp_path / "theirs.py").write_text("import os, sys; print(os.environ['DO_NOT_TRACK'], *sys.argv[1:])")
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-m", "environment", "theirs", "server", "--port", "1"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["true", "server", "--port", "1"], done.stderr


def test_every_unit_and_every_container_of_ours_starts_through_a_door():
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]
    commands = {name: each["command"] for name, each in compose.items() if "command" in each}
    words = {
        name: " ".join(command) if isinstance(command, list) else command
        for name, command in commands.items()
    }
    for unit in (ROOT / "deployments" / "systemd").glob("*.service"):
        words[unit.name] = re.search(r"(?m)^ExecStart=\S*/(\S+ .*)$", unit.read_text())[1]
    assert len(words) == 10
    doors = re.compile(
        r"python -m (environment (prefect|mlflow) server|deployments\.(install|worker)\b)|repartee up$"
    )
    for name, command in words.items():
        assert doors.match(command), f"{name}: {command}"


@pytest.mark.parametrize(("given", "is_ours"), [({}, True), ({"HF_HUB_OFFLINE": "1"}, False)])
def test_a_process_knows_whether_the_user_has_forbidden_the_hub(given, is_ours):
    program = (
        "import os, subprocess, sys; from environment import quiet_environment; quiet_environment();"
        "program = 'from corpus.hub.listing import is_forbidden; print(is_forbidden())';"
        "subprocess.run([sys.executable, '-c', program], check=True)"
    )
    names = ("HF_HUB_OFFLINE", "HF_HUB_OFFLINE_BY_REPARTEE")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**clean, **given}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(not is_ours), done.stderr
