"""Tests of the rescue of a damaged SQLite file, with and without SQLite's shell."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from models import sqlite_files
from models.registry.rescue import rescue

PAGE = 4096


@pytest.fixture(params=["shell", "rows"])
def way(request, monkeypatch, tmp_path):
    if request.param == "rows":
        monkeypatch.setenv("PATH", str(tmp_path))  # there is no sqlite3 in this folder
    elif shutil.which("sqlite3") is None:
        pytest.skip("this machine has no sqlite3 shell")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE small (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO small VALUES (1, 'é')")
        connection.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, text TEXT, bytes BLOB)")
        connection.executemany(
            "INSERT INTO big VALUES (?, ?, ?)", ((i, "x" * 500, b"\xff" * 9) for i in range(2000))
        )
        connection.execute("CREATE INDEX by_name ON small (name)")
    return file


def damage(path: Path, at: int, size: int = PAGE) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + size] = random.Random(0).randbytes(size)
    path.write_bytes(content)


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as found:
        return "big" in sqlite_files.tables(found)


def test_all_but_the_damaged_page_is_read(path: Path, way) -> None:
    damage(path, 100 * PAGE)
    before = path.read_bytes()
    assert sqlite_files.damage(path)
    assert rescue(path, is_whole)
    assert sqlite_files.damage(path) is None
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT name FROM small").fetchall() == [("é",)]
        rows = found.execute("SELECT text, bytes FROM big").fetchall()
        assert found.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall() == [
            ("by_name",)
        ]
    assert 1900 < len(rows) < 2000 and set(rows) == {("x" * 500, b"\xff" * 9)}
    assert path.with_name("a.db.damaged").read_bytes() == before, "the damaged file is kept"


def test_where_nothing_can_be_read_the_file_stays_as_a_copy(path: Path, way) -> None:
    damage(path, 0, 2 * PAGE)
    before = path.read_bytes()
    assert not rescue(path, is_whole)
    assert not path.exists() and path.with_name("a.db.damaged").read_bytes() == before


def test_a_second_damage_keeps_the_copy_of_the_first(path: Path, way) -> None:
    for _ in range(2):
        damage(path, 100 * PAGE)
        rescue(path, is_whole)
    assert path.with_name("a.db.damaged").exists() and path.with_name("a.db.damaged-2").exists()
