"""The database check of `repartee doctor`, without the other checks."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from databases import leave_a_hot_journal

from deployments.doctor import servers
from deployments.doctor.installation import Installation
from models import sqlite_files
from models.registry.versions import Registry
from settings import Settings


def open_home(home):
    return Registry(sqlite_files.address(home / "mlflow.db"), home / "mlartifacts")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    registry = open_home(home)
    for i in range(100):
        registry.open_run(str(i), "night", {"p": "x" * 400}, {})
    return home


@pytest.fixture
def home(whole, tmp_path, monkeypatch):
    """A copy of the intact home; the paths in its database point into the copy."""
    shutil.copytree(whole, tmp_path / "home")
    open_home(tmp_path / "home").prepare()
    return tmp_path / "home"


def faults():
    return list(servers.databases(Installation(Settings())))


def test_the_runs_in_a_damaged_database_are_rescued(home):
    path = home / "mlflow.db"
    with closing(sqlite3.connect(path)) as found:
        run_id = found.execute("SELECT run_uuid FROM runs").fetchone()[0]
    content = bytearray(path.read_bytes())
    page = content.rfind(run_id.encode()) // 4096 * 4096
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    (fault,) = faults()
    assert "is damaged" in fault.what and fault.remedy == "repartee down; repartee doctor --fix"
    fault.fix()
    assert faults() == []
    with closing(sqlite3.connect(path)) as rescued:
        assert rescued.execute("SELECT count(*) FROM runs").fetchone()[0] > 50
    assert (home / "mlflow.db.damaged").read_bytes() == content
    assert open_home(home).open_run("new", "night", {}, {})


def test_a_write_that_a_kill_cut_off_is_no_fault(home):
    leave_a_hot_journal(home / "mlflow.db")
    assert faults() == []
    assert not (home / "mlflow.db-journal").exists()


def test_the_addresses_of_a_moved_home_are_a_fault_that_is_mended(home, tmp_path, monkeypatch):
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "moved"))
    (fault,) = faults()
    assert str(home) in fault.what and fault.remedy == "repartee doctor --fix"
    fault.fix()
    assert faults() == []


def test_doctor_creates_no_database(tmp_path):
    assert faults() == [] and not (tmp_path / "home").exists()
