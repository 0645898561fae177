"""Command-line runs whose Prefect server is dead, hangs, has a damaged database or fails during the run."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing

import pytest
from installation import command
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.ephemeral_server import temporary_server
from deployments.local.prefect_database import set_damaged_aside
from flows.config import RetrainConfig
from flows.lifecycle.context import open_run
from flows.lifecycle.dead_runs import reconcile
from flows.lifecycle.outcome import Outcome
from flows.lifecycle.results import Result, find_result, forget_result, save_result
from settings import Settings

pytestmark = pytest.mark.flow
WORDS = ("--recipe", "quick", "--set", "download.sample_turns=1000", "--json")


@pytest.fixture
def home(tmp_path, new_home):
    return new_home(tmp_path)


def prepare(home, *, env=(), on="", hit=lambda: None):
    """Run `prepare`; returns (exit status, stdout, stderr). `hit` is called when a line on stderr contains
    `on`."""
    options = command(home, "prepare", *WORDS)
    process = subprocess.Popen(
        **{**options, "env": {**options["env"], **dict(env)}}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None and process.stdout is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if on and on in line:
            hit()
            on = ""
    return process.wait(), process.stdout.read(), "".join(lines)


def stages(out):
    return [stage["name"] for stage in json.loads(out)["stages"]]


def flow_runs(home):
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        return database.execute("select state_name from flow_run").fetchall()


def test_a_configured_server_that_does_not_answer_is_one_line(tmp_path):
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen(16)
        port = hung.getsockname()[1]
        for address in (f"http://127.0.0.1:{port}/api", "http://127.0.0.1:1/api"):
            status, out, err = prepare(tmp_path, env={"PREFECT_API_URL": address})
            assert (status, out) == (2, "")
            line = err.strip().splitlines()[-1]
            assert line.startswith(f"repartee: the Prefect server at {address} (PREFECT_API_URL)")
            assert line.endswith("unset PREFECT_API_URL") and "Traceback" not in err


def test_a_server_that_cannot_start_stops_no_run(tmp_path):
    (tmp_path / "prefect").write_text("no folder")
    status, out, err = prepare(tmp_path)
    assert status == 0, err
    assert "this run is not recorded in Prefect" in err
    assert stages(out)[-1] == "export"


def test_a_server_that_dies_on_the_way_stops_no_run_and_the_next_start_records_its_end(home, monkeypatch):
    def kill():
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
        ).stdout
        (server,) = [line for line in listed.splitlines() if f"{home}/prefect" in line]
        os.kill(int(server.split()[0]), signal.SIGKILL)

    status, out, err = prepare(home, on="parse: running", hit=kill)
    assert status == 0, err
    assert "the end of this run is not recorded in Prefect" in err
    assert stages(out)[-1] == "export"
    assert flow_runs(home) == [("Running",)]

    monkeypatch.setenv("REPARTEE_HOME", str(home))
    with temporary_server(home) as server, temporary_settings({PREFECT_API_URL: server.wait()}):
        assert reconcile(open_run(RetrainConfig(), Settings())) == []
    assert flow_runs(home) == [("Completed",)]
    assert not list((home / "prefect" / "results").iterdir())


def test_a_damaged_history_is_put_aside(tmp_path, caplog):
    path = tmp_path / "prefect.db"
    path.write_bytes(b"garbage" * 1000)
    set_damaged_aside(path)
    assert not path.exists() and (tmp_path / "prefect.db.damaged").exists()
    assert "Prefect starts with an empty history" in caplog.text
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table flow_run (id)")
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("begin exclusive")
        set_damaged_aside(path)
    assert path.exists(), "in use is not damaged"


def test_a_result_is_found_as_it_was_until_it_is_forgotten(tmp_path):
    outcome = Outcome("skipped", "another run", "repartee", None, None, "1", 0.1, [])
    save_result(tmp_path, "1", Result(outcome))
    assert find_result(tmp_path, "1") == Result(outcome)
    forget_result(tmp_path, "1")
    assert find_result(tmp_path, "1") is None
