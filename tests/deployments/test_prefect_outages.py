"""Runs whose Prefect server dies or hangs, at the start or in any stage, end as docs/outages.md says."""

import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from installation import ROOT, command
from outage_runs import BEFORE, FAULTS, ended, run_of, until_said
from outages import CONFIGURED, PREFECT, page

from deployments.local.ephemeral_server import Server


def test_the_page_has_the_rows_that_are_tested():
    remedy = "python tests/support/outages.py > docs/outages.md"
    assert (ROOT / "docs" / "outages.md").read_text() == page(), remedy


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A home that all tests share, whether Prefect records their runs or not."""
    return tmp_path_factory.mktemp("recorded")


def run(home, row, address):
    options = command(home, *run_of(row), "--json")
    options["env"] |= {"PREFECT_API_URL": address} if address else {}
    return subprocess.Popen(**options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def own_server(home):
    """The process id of the server that a run in this home has started for itself."""
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
    """Run the command, with an outage of Prefect from the row's moment on."""
    server = Server(folder) if row.server == CONFIGURED else None
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
@pytest.mark.parametrize(
    "row", PREFECT, ids=lambda row: f"{row.server}-{row.fault}-{row.moment.replace('`', '')}"
)
def test_an_outage_of_prefect_ends_as_promised(row, recorded, tmp_path):
    status, result, stderr = run_into_prefects(row, recorded, tmp_path)
    assert status == row.exit, stderr
    assert result.get("outcome", "") == row.outcome, stderr
    assert all(part in stderr for part in row.says.split(" ... ")), stderr

    if row.server == CONFIGURED:
        server = Server(tmp_path)
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
