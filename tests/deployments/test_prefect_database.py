"""prefect.db: there whole or not at all, whoever is killed."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from deployments import prefect_database
from deployments.server import temporary_server
from models import sqlite_files


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
