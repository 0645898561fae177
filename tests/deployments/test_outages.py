"""Servers that die and servers that hang, at the start and in each stage, end as docs/outages.md promises."""

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
from installation import PATIENCE_S, ROOT, TINY, command, settings, until
from outages import MLFLOW, page

SEEDS = {row: seed for seed, row in enumerate(MLFLOW, 100)}  # a training of its own for each
# The line after which the server goes, so that what comes next meets it.
BEFORE = {
    "the training of `run`": r"train: runs",
    "the gate of `run`": r"evaluate: \d+ rows",
    "the registration of `run`": r"gate: promotes",
    "the promotion of `run`": r"is stored",
}
RUN = ["run", "--recipe", "quick", "--set", "gate.promote=always", "--set", "train.log_every=1"]
RUN += settings(TINY["changes"])


def test_the_page_has_the_rows_that_are_tested():
    told = "python tests/deployments/outages.py > docs/outages.md"
    assert (ROOT / "docs" / "outages.md").read_text() == page(), told


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
        os.killpg(self.process.pid, signal.SIGKILL if fault == "dead" else signal.SIGSTOP)
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


@contextmanager
def away(server, fault):
    server.fail(fault)
    try:
        yield
    finally:
        server.recover(fault)


def start(home, server, *words):
    told = command(home, *words, "--json")
    told["env"]["MLFLOW_TRACKING_URI"] = server.address
    return subprocess.Popen(**told, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process, said=""):
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out else {}, said + err


def run_into(row, home, server, words):
    """The command, with the server away from the row's moment on: (exit, JSON, standard error)."""
    if row.moment not in BEFORE:
        with away(server, row.fault):
            return ended(start(home, server, *words))
    process, said = start(home, server, *words), ""
    for line in process.stderr:
        said += line
        if re.search(BEFORE[row.moment], line):
            break
    else:
        raise AssertionError(f"it never came to {row.moment}: {said}")
    with away(server, row.fault):
        return ended(process, said)


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("row", MLFLOW, ids=lambda row: f"{row.fault}-{row.moment.replace('`', '')}")
def test_an_outage_of_mlflow_ends_as_promised(row, home, server):
    verb = re.search(r"`(\w+)`", row.moment)[1]
    words = {
        "run": [*RUN, "--set", f"train.seed={SEEDS[row]}"],
        "models": ["models"],
        "chat": ["chat", "--once", "Hello."],
    }[verb]
    status, told, said = run_into(row, home, server, words)
    assert status == row.exit, said
    assert told.get("outcome", "") == row.outcome, said
    reason = told["reason"] if told else said
    assert all(part in reason for part in row.says.split(" ... ")), reason

    status, told, said = ended(start(home, server, *words))
    assert status == 0, said
    if verb == "run":
        assert told["outcome"] == "promoted", told
        assert {stage["status"] for stage in told["stages"]} == {"reused"}
        assert points(server, told["mlflow_run_id"]) == TINY["changes"]["train"]["max_steps"]


def points(server, run_id):
    """How many steps the curve of the training's loss has; each once, or this is -1."""
    asked = f"{server.address}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=train/loss"
    with urllib.request.urlopen(asked, timeout=30) as answer:
        steps = [int(point["step"]) for point in json.load(answer)["metrics"]]
    return len(steps) if len(steps) == len(set(steps)) else -1
