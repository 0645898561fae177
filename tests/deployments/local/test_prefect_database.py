"""prefect.db exists with all of its tables or not at all, even if a process is killed."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from deployments.local import prefect_database
from deployments.local.ephemeral_server import temporary_server
from models import sqlite_files
from models.files import PROJECT as ROOT


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prefect")
    prefect_database.prepare(folder)
    return folder / "prefect.db"


def leave_some_tables(path):
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("PRAGMA journal_mode = WAL")
        half.execute("CREATE TABLE flow_run (id TEXT)")
        half.execute("CREATE TABLE alembic_version (version_num TEXT)")


@pytest.mark.flow
def test_the_database_is_one_whole_file_with_its_revision(whole):
    assert [path.name for path in whole.parent.iterdir() if not path.name.endswith(".lock")] == ["prefect.db"]
    assert not prefect_database.is_missing(whole) and sqlite_files.damage(whole) is None


@pytest.mark.flow
def test_one_that_is_there_is_left_alone(whole):
    before = whole.read_bytes()
    prefect_database.prepare(whole.parent)
    assert whole.read_bytes() == before


@pytest.mark.flow
def test_a_server_starts_over_what_a_kill_left_of_its_tables(tmp_path):
    (tmp_path / "prefect").mkdir()
    leave_some_tables(tmp_path / "prefect" / "prefect.db")
    with temporary_server(tmp_path) as server:
        assert server.wait()
    assert (tmp_path / "prefect" / "prefect.db.unfinished").exists()


def test_half_a_copy_of_a_table_counts_only_where_there_is_no_run(tmp_path):
    path = tmp_path / "prefect.db"
    leave_some_tables(path)
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("INSERT INTO alembic_version VALUES ('a')")
    assert not prefect_database.is_missing(path)
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("CREATE TABLE _alembic_tmp_flow_run (id TEXT)")
    assert prefect_database.is_missing(path)
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("INSERT INTO flow_run VALUES ('r')")
    assert not prefect_database.is_missing(path)


def test_a_damaged_one_and_one_elsewhere_are_none_of_its_affairs(tmp_path, monkeypatch):
    (tmp_path / "prefect.db").write_text("not a database, but long enough to be read as one " * 20)
    prefect_database.prepare(tmp_path)
    shutil.rmtree(tmp_path)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    prefect_database.prepare(tmp_path)
    assert not tmp_path.exists()


CREATES = "import sys; from pathlib import Path; from deployments.local import prefect_database as p; p.prepare(Path(sys.argv[1]))"


@pytest.mark.soak
def test_killed_at_random_instants_the_next_one_finds_a_database_or_creates_it(whole, tmp_path):
    creation = [sys.executable, "-c", CREATES]
    began_s = time.monotonic()
    subprocess.run([*creation, str(tmp_path / "measured")], cwd=ROOT, check=True)
    whole_s = time.monotonic() - began_s
    for number in range(8):
        folder = tmp_path / str(number)
        process = subprocess.Popen([*creation, str(folder)], cwd=ROOT, start_new_session=True)
        time.sleep(random.uniform(0.3, 1) * whole_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        prefect_database.prepare(folder)
        assert not prefect_database.is_missing(folder / "prefect.db"), number
        assert sqlite_files.damage(folder / "prefect.db") is None
        with (
            closing(sqlite3.connect(folder / "prefect.db")) as found,
            closing(sqlite3.connect(whole)) as wanted,
        ):
            assert sqlite_files.tables(found) == sqlite_files.tables(wanted)
