"""Servers that die and servers that hang, at the start and in each stage, end as docs/outages.md promises."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager

import pytest
from installation import PATIENCE_S, ROOT, TINY, command, settings, until
from outages import CONFIGURED, MLFLOW, PREFECT, page

from deployments.local.ephemeral_server import Server as PrefectServer

SEEDS = {row: seed for seed, row in enumerate([*MLFLOW, *PREFECT], 100)}  # a training of its own for each
# The line after which the server goes, so that what comes next meets it.
BEFORE = {
    "the training of `run`": r"train: runs",
    "the gate of `run`": r"evaluate: \d+ rows",
    "the registration of `run`": r"gate: promotes",
    "the promotion of `run`": r"is stored",
}
FAULTS = {"dead": signal.SIGKILL, "hung": signal.SIGSTOP}
RUN = ["run", "--recipe", "quick", "--set", "gate.promote=always", "--set", "train.log_every=1"]
RUN += settings(TINY["changes"])


def test_the_page_has_the_rows_that_are_tested():
    remedy = "python tests/support/outages.py > docs/outages.md"
    assert (ROOT / "docs" / "outages.md").read_text() == page(), remedy


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


@contextmanager
def away(server, fault):
    server.fail(fault)
    try:
        yield
    finally:
        server.recover(fault)


def start(home, server, *words):
    options = command(home, *words, "--json")
    options["env"]["MLFLOW_TRACKING_URI"] = server.address
    return subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process, stderr=""):
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out else {}, stderr + err


def run_into(row, home, server, words):
    """The command, with the server away from the row's moment on: (exit, JSON, standard error)."""
    if row.moment not in BEFORE:
        with away(server, row.fault):
            return ended(start(home, server, *words))
    process = start(home, server, *words)
    stderr = until_said(process, BEFORE[row.moment])
    with away(server, row.fault):
        return ended(process, stderr)


def until_said(process, wanted):
    stderr = ""
    for line in process.stderr:
        stderr += line
        if re.search(wanted, line):
            return stderr
    raise AssertionError(f"it never said {wanted}: {stderr}")


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
    status, result, stderr = run_into(row, home, server, words)
    assert status == row.exit, stderr
    assert result.get("outcome", "") == row.outcome, stderr
    reason = result["reason"] if result else stderr
    assert all(part in reason for part in row.says.split(" ... ")), reason

    status, result, stderr = ended(start(home, server, *words))
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


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A home whose runs Prefect records, or does not."""
    return tmp_path_factory.mktemp("recorded")


def run(home, row, address):
    words = [*RUN, "--set", f"train.seed={SEEDS[row]}", "--json"]
    options = command(home, *words)
    options["env"] |= {"PREFECT_API_URL": address} if address else {}
    return subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def own_server(home):
    """The process of the server that a run of this home has started for itself."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout
    (found,) = [
        line
        for line in listed.splitlines()
        if "deployments.local.ephemeral_server http" in line and f"{home}/prefect" in line
    ]
    return int(found.split()[0])


def run_into_prefects(row, home, folder):
    """The command, with Prefect's server away from the row's moment on."""
    server = PrefectServer(folder) if row.server == CONFIGURED else None
    try:
        address = server.wait() if server else ""
        moved = home / "prefect.away"
        if row.moment not in BEFORE and server:
            os.kill(server.process.pid, FAULTS[row.fault])
        elif row.moment not in BEFORE:
            (home / "prefect").rename(moved) if (home / "prefect").exists() else moved.mkdir()
            (home / "prefect").write_text("no folder, no server")
        process, stderr = run(home, row, address), ""
        if row.moment in BEFORE:
            stderr = until_said(process, BEFORE[row.moment])
            os.kill(server.process.pid if server else own_server(home), FAULTS[row.fault])
        result = ended(process, stderr)
        if moved.exists():
            (home / "prefect").unlink()
            moved.rename(home / "prefect")
        return result
    finally:
        if server:
            server.process.kill()
            server.stop()


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "row", PREFECT, ids=lambda row: f"{row.server}-{row.fault}-{row.moment.replace('`', '')}"
)
def test_an_outage_of_prefect_ends_as_promised(row, recorded, tmp_path):
    status, result, stderr = run_into_prefects(row, recorded, tmp_path)
    assert status == row.exit, stderr
    assert result.get("outcome", "") == row.outcome, stderr
    assert all(part in stderr for part in row.says.split(" ... ")), stderr

    if row.server == CONFIGURED:
        server = PrefectServer(tmp_path)
        try:
            status, result, stderr = ended(run(recorded, row, server.wait()))
        finally:
            server.stop()
    else:
        status, result, stderr = ended(run(recorded, row, ""))
    assert status == 0, stderr
    assert f"`{result['outcome']}`" == row.again.partition(";")[0]
    if "recorded" in row.again:
        home = tmp_path if row.server == CONFIGURED else recorded
        with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
            states = database.execute(
                "select distinct state_name from flow_run where name like 'quick%'"
            ).fetchall()
        assert states == [("Completed",)]
