"""Commands whose MLflow server dies or hangs, at the start or in any stage, end as docs/outages.md says."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from functools import partial

import pytest
from installation import TINY, command, until
from outage_runs import BEFORE, FAULTS, RUN, SEEDS, ended, run_of, until_said
from outages import MLFLOW

from deployments.local.ephemeral_server import Server as PrefectServer


class Server:
    """An MLflow server that can fail and be restarted at the same address with the same data."""

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
def prefect(tmp_path_factory):
    """The address of one Prefect server for all runs, because these tests are not about Prefect."""
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


def start(home, server, prefect, *words, model="repartee"):
    options = command(home, *words, "--json")
    options["env"] |= {
        "MLFLOW_TRACKING_URI": server.address,
        "PREFECT_API_URL": prefect,
        "REPARTEE_MODEL_NAME": model,
    }
    return subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, server, prefect):
    """A home with an unregistered model; in copies of the home, all outputs before the gate are reused."""
    home = tmp_path_factory.mktemp("trained")
    with away(server, "dead"):
        status, result, stderr = ended(start(home, server, prefect, *RUN))
    assert (status, result["outcome"]) == (0, "trained_not_registered"), stderr
    return home


@pytest.fixture(scope="module")
def served(tmp_path_factory, server, prefect, trained):
    """The name of a model that has a champion."""
    home = shutil.copytree(trained, tmp_path_factory.mktemp("served") / "home")
    status, result, stderr = ended(start(home, server, prefect, *RUN, model="served"))
    assert (status, result["outcome"]) == (0, "promoted"), stderr
    return "served"


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


def run_into(row, process, server):
    """Run the command, with an outage from the row's moment on; returns (exit status, JSON, stderr)."""
    if row.moment not in BEFORE:
        with away(server, row.fault):
            return ended(process())
    started = process()
    stderr = until_said(started, BEFORE[row.moment])
    with away(server, row.fault):
        return ended(started, stderr)


@pytest.mark.soak
@pytest.mark.parametrize(
    "row", [row for row in MLFLOW if "`run`" in row.moment], ids=lambda row: f"{row.fault}-{row.moment}"
)
def test_an_outage_of_mlflow_in_a_run_ends_as_promised(row, home, server, prefect):
    trains = row.moment in ("the start of `run`", "the training of `run`")
    words = run_of(row) if trains else RUN
    run = partial(start, home, server, prefect, *words, model=f"row-{SEEDS[row]}")
    ends_as_promised(row, run_into(row, run, server))

    status, result, stderr = ended(run())
    assert (status, result["outcome"]) == (0, "promoted"), stderr
    assert {stage["status"] for stage in result["stages"]} == {"reused"}
    assert points(server, result["mlflow_run_id"]) == TINY["changes"]["train"]["max_steps"]


@pytest.mark.soak
@pytest.mark.parametrize(
    "row", [row for row in MLFLOW if "`run`" not in row.moment], ids=lambda row: f"{row.fault}-{row.moment}"
)
def test_an_outage_of_mlflow_under_another_verb_is_one_line(row, home, server, prefect, served):
    words = ["chat", "--once", "Hello."] if "chat" in row.moment else ["models"]
    verb = partial(start, home, server, prefect, *words, model=served)
    ends_as_promised(row, run_into(row, verb, server))
    status, result, stderr = ended(verb())
    assert status == 0 and result, stderr


def ends_as_promised(row, end):
    status, result, stderr = end
    assert status == row.exit, stderr
    assert result.get("outcome", "") == row.outcome, stderr
    reason = result["reason"] if result else stderr
    assert all(part in reason for part in row.says.split(" ... ")), reason


def points(server, run_id):
    """The number of steps in the curve of the training loss; -1 if a step occurs more than once."""
    url = f"{server.address}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=train/loss"
    with urllib.request.urlopen(url, timeout=30) as answer:
        steps = [int(point["step"]) for point in json.load(answer)["metrics"]]
    return len(steps) if len(steps) == len(set(steps)) else -1
