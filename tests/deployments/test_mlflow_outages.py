"""An MLflow server that dies or hangs, at the start and in each stage, ends as docs/outages.md promises."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest
from installation import TINY, command, until
from outage_runs import BEFORE, FAULTS, ended, run_of, until_said
from outages import MLFLOW

from deployments.local.ephemeral_server import Server as PrefectServer


class Server:
    """An MLflow server that dies and comes again at the same address, with what it had."""

    def __init__(self, folder):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = None

    def up(self):
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self.answers)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def fail(self, fault):
        os.killpg(self.process.pid, FAULTS[fault])
        if fault == "dead":
            self.process.wait()

    def recover(self, fault):
        if fault == "hung":
            os.killpg(self.process.pid, signal.SIGCONT)
            until(self.answers)
        else:
            self.up()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.up()
    yield server
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    """The address of one server for all runs, none of which is about Prefect."""
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    try:
        yield server.wait()
    finally:
        server.stop()


@contextmanager
def away(server, fault):
    server.fail(fault)
    try:
        yield
    finally:
        server.recover(fault)


def start(home, server, prefect, *words):
    options = command(home, *words, "--json")
    options["env"] |= {"MLFLOW_TRACKING_URI": server.address, "PREFECT_API_URL": prefect}
    return subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_into(row, home, server, prefect, words):
    """The command, with the server away from the row's moment on: (exit, JSON, standard error)."""
    if row.moment not in BEFORE:
        with away(server, row.fault):
            return ended(start(home, server, prefect, *words))
    process = start(home, server, prefect, *words)
    stderr = until_said(process, BEFORE[row.moment])
    with away(server, row.fault):
        return ended(process, stderr)


@pytest.mark.soak
@pytest.mark.parametrize("row", MLFLOW, ids=lambda row: f"{row.fault}-{row.moment.replace('`', '')}")
def test_an_outage_of_mlflow_ends_as_promised(row, home, server, prefect):
    verb = re.search(r"`(\w+)`", row.moment)[1]
    words = {
        "run": run_of(row),
        "models": ["models"],
        "chat": ["chat", "--once", "Hello."],
    }[verb]
    status, result, stderr = run_into(row, home, server, prefect, words)
    assert status == row.exit, stderr
    assert result.get("outcome", "") == row.outcome, stderr
    reason = result["reason"] if result else stderr
    assert all(part in reason for part in row.says.split(" ... ")), reason

    status, result, stderr = ended(start(home, server, prefect, *words))
    assert status == 0, stderr
    if verb == "run":
        assert result["outcome"] == "promoted", result
        assert {stage["status"] for stage in result["stages"]} == {"reused"}
        assert points(server, result["mlflow_run_id"]) == TINY["changes"]["train"]["max_steps"]


def points(server, run_id):
    """How many steps the curve of the training's loss has; each once, or this is -1."""
    url = f"{server.address}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=train/loss"
    with urllib.request.urlopen(url, timeout=30) as answer:
        steps = [int(point["step"]) for point in json.load(answer)["metrics"]]
    return len(steps) if len(steps) == len(set(steps)) else -1
