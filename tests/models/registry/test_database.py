"""Tests of a home's MLflow database after a kill or a move of the home, and with other MLflow versions."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from databases import leave_a_hot_journal

from models import sqlite_files
from models.errors import InputError
from models.registry import database, tags
from models.registry.versions import Registry

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a registered model. Tests copy it, because creating MLflow's tables takes seconds."""
    home = tmp_path_factory.mktemp("original")
    register(open_home(home), home, "first")
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    """A copy of the original home for one test. Its artifact addresses lead into the copy."""
    shutil.copytree(original, tmp_path / "var")
    with closing(sqlite3.connect(tmp_path / "var" / "mlflow.db")) as copy, copy:
        for table, column in database.ADDRESSES:
            copy.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (str(original), str(tmp_path / "var")),
            )
    return tmp_path / "var"


def open_home(home: Path, **names: str) -> Registry:
    return Registry(f"sqlite:///{home}/mlflow.db", home / "mlartifacts", **names)


def register(registry: Registry, scratch: Path, fingerprint: str) -> int:
    folder = scratch / f"model-{fingerprint}"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(fingerprint.encode())
    run_id = registry.open_run(fingerprint, "night", {}, {tags.LOCATION: f"host:{scratch}"})
    version = registry.register(folder, run_id, fingerprint=fingerprint, tags={}, description="")
    registry.promote(version, "there was no champion")
    return version.number


def test_a_write_that_a_kill_cut_off_is_taken_back_by_the_next_look(home: Path) -> None:
    leave_a_hot_journal(home / "mlflow.db")
    champion = open_home(home).champion()
    assert champion is not None and champion.number == 1
    assert sqlite_files.damage(home / "mlflow.db") is None


def test_what_a_kill_cut_off_is_no_damage(home: Path) -> None:
    leave_a_hot_journal(home / "mlflow.db")
    assert sqlite_files.damage(home / "mlflow.db") is None
    assert not (home / "mlflow.db-journal").exists()


def leave_half_of_the_tables(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT)")
        half.execute("CREATE TABLE runs (run_uuid TEXT PRIMARY KEY)")
        half.execute("CREATE TABLE _alembic_tmp_runs (run_uuid TEXT PRIMARY KEY)")


def leave_an_early_revision(path: Path) -> None:
    leave_half_of_the_tables(path)
    with closing(sqlite3.connect(path)) as half, half:
        half.execute("CREATE TABLE alembic_version (version_num TEXT PRIMARY KEY)")
        half.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        half.execute("DROP TABLE _alembic_tmp_runs")


@pytest.mark.parametrize("leave", [leave_half_of_the_tables, leave_an_early_revision])
def test_half_of_the_tables_are_set_aside_and_the_database_begins_anew(leave, tmp_path: Path) -> None:
    home = tmp_path / "var"
    leave(home / "mlflow.db")
    assert register(open_home(home), tmp_path, "f") == 1
    assert database.state(home / "mlflow.db") == "current"
    assert (home / "mlflow.db.unfinished").exists()


def test_reading_half_of_the_tables_finds_nothing_and_changes_nothing(tmp_path: Path) -> None:
    leave_half_of_the_tables(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert open_home(tmp_path).versions() == []
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_a_database_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    def missing(there: Path) -> bool:
        return not there.exists()

    def dies(new: Path) -> None:
        with closing(sqlite3.connect(new)) as half, half:
            half.execute("CREATE TABLE t (x)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sqlite_files.create(path, dies, missing)
    assert not path.exists()
    killed = tmp_path / ".a.db.new-killed"  # a killed process leaves such a folder
    killed.mkdir()
    path.with_name("a.db-journal").write_bytes(b"of a database that is gone")

    def build(new: Path) -> None:
        with closing(sqlite3.connect(new)) as whole, whole:
            whole.execute("PRAGMA journal_mode = WAL")
            whole.execute("CREATE TABLE t (x)")
            whole.execute("INSERT INTO t VALUES (1)")

    sqlite_files.create(path, build, missing)
    assert not killed.exists() and not path.with_name("a.db-journal").exists()
    with closing(sqlite3.connect(path)) as created:
        assert created.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_a_creator_that_stands_still_is_named_after_a_while(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sqlite_files, "WAIT_SECONDS", 0.2)
    path = tmp_path / "a.db"
    with sqlite_files.alone(path), pytest.raises(InputError, match=r"fuser -v .*\.a\.db\.lock"):
        sqlite_files.create(path, lambda new: new.touch(), lambda there: not there.exists())


@pytest.mark.flow
def test_two_that_begin_in_one_home_at_once_find_one_database(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from models.registry.versions import Registry\n"
    script += "home = Path(sys.argv[1])\n"
    script += "r = Registry(f'sqlite:///{home}/mlflow.db', home / 'mlartifacts')\n"
    script += "r.open_run(sys.argv[2], 'night', {}, {})\n"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), name], stderr=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for process in both:
        assert process.wait(120) == 0, process.stderr and process.stderr.read()
    registry = open_home(tmp_path)
    assert registry.find_run("a") is not None and registry.find_run("b") is not None


def test_looking_creates_no_database(tmp_path: Path) -> None:
    registry = open_home(tmp_path / "var")
    assert (registry.versions(), registry.champion(), registry.history()) == ([], None, [])
    assert registry.find_run("f") is None and registry.open_runs("home", "here") == []
    with pytest.raises(InputError, match="no version of 'repartee' is registered yet"):
        registry.find("champion")
    assert not (tmp_path / "var").exists()


def test_looking_creates_no_experiment(home: Path) -> None:
    assert open_home(home, experiment="other").find_run("f") is None
    assert open_home(home).client.get_experiment_by_name("other") is None


def test_the_error_of_a_newer_mlflows_database_never_proposes_an_upgrade(home: Path) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as written, written:
        written.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for use in (lambda r: r.versions(), lambda r: r.open_run("g", "night", {}, {})):
        with pytest.raises(InputError, match="was written by a newer MLflow") as caught:
            use(open_home(home))
        assert "db upgrade" not in str(caught.value)


@pytest.mark.flow
def test_a_server_is_started_over_a_database_that_is_whole_and_knows_its_home(
    home: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    home.rename(moved)
    path, artifacts = moved / "mlflow.db", moved / "mlartifacts"
    assert not database.is_ready(path, artifacts)
    command = [sys.executable, "-m", "models.registry.database", str(path), str(artifacts)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert database.is_ready(path, artifacts)
    with closing(sqlite3.connect(path)) as written, written:
        written.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "a newer MLflow" in done.stderr


MAKES_AN_OLDER_ONE = """
import sys, sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
url = f"sqlite:///{sys.argv[1]}"
Base.metadata.create_all(sa.create_engine(url))
config = _get_alembic_config(url)
script = ScriptDirectory.from_config(config)
command.upgrade(config, script.get_revision(script.get_current_head()).down_revision)
"""


@pytest.mark.flow
def test_a_database_of_an_older_mlflow_is_upgraded_and_stays_as_it_was_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    subprocess.run([sys.executable, "-c", MAKES_AN_OLDER_ONE, str(path)], check=True, capture_output=True)
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("INSERT INTO runs (run_uuid, name) VALUES ('r', 'long ago')")
        before = old.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    assert database.state(path) == "older"
    open_home(tmp_path).versions()
    assert database.state(path) == "current"
    for file, revision in ((path, database.revisions()[1]), (tmp_path / "mlflow.db.older", before)):
        with closing(sqlite3.connect(file)) as found:
            assert found.execute("SELECT version_num FROM alembic_version").fetchone()[0] == revision
            assert found.execute("SELECT name FROM runs").fetchone()[0] == "long ago"


def test_the_newest_revision_is_the_one_that_mlflow_knows() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert database.revisions()[1] == _get_latest_schema_revision()


def test_a_model_is_found_after_its_home_has_moved_and_the_next_write_stays_in_it(
    home: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "else where"
    home.rename(moved)
    registry = open_home(moved)
    before = (moved / "mlflow.db").read_bytes()
    assert registry.folder(registry.find("champion"), tmp_path / "cache").is_relative_to(moved)
    assert (moved / "mlflow.db").read_bytes() == before, "reading must not change the database"
    assert register(open_home(moved), tmp_path, "second") == 2
    assert not home.exists()
    assert home.as_uri() not in dump(moved) and str(home) not in dump(moved)


def test_the_logged_model_of_a_moved_home_has_its_address_there(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    home.rename(moved)
    registry = open_home(moved)
    registry.prepare()
    champion = registry.find("champion")
    location = registry.client.get_logged_model(champion.logged_model).artifact_location
    assert location.startswith(f"{moved.as_uri()}/mlartifacts/models/")
    assert registry.client.get_model_version_download_uri("repartee", "1") == location
    assert registry.folder(champion, tmp_path / "cache").as_uri() == location


def test_the_copy_of_a_home_writes_into_itself_alone(home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    before = sorted(home.rglob("*"))
    registry = open_home(copy)
    assert registry.folder(registry.find("champion"), tmp_path / "cache").is_relative_to(copy)
    assert register(registry, tmp_path, "second") == 2
    assert sorted(home.rglob("*")) == before
    assert str(home) + "/" not in dump(copy).replace(str(copy), "")


def test_a_home_under_two_paths_is_not_taken_for_a_moved_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(home)
    before = dump(home)
    open_home(tmp_path / "alias").prepare()
    assert dump(home) == before


def test_artifacts_that_somebody_put_elsewhere_stay_there(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk" / "mlartifacts"
    elsewhere.parent.mkdir()
    (home / "mlartifacts").rename(elsewhere)
    with closing(sqlite3.connect(home / "mlflow.db")) as written, written:
        for table, column in database.ADDRESSES:
            written.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(home), str(elsewhere.parent))
            )
    registry = open_home(home)
    registry.prepare()
    assert registry.folder(registry.find("champion"), tmp_path / "cache").is_relative_to(elsewhere)


def test_the_runs_of_a_moved_home_are_still_its_own(home: Path, tmp_path: Path) -> None:
    run_id = open_home(home).open_run("open", "night", {}, {tags.LOCATION: f"host:{home}"})
    moved = tmp_path / "moved"
    home.rename(moved)
    registry = open_home(moved)
    registry.prepare()
    assert registry.open_runs("home", f"host:{moved}") == [run_id]


@pytest.mark.flow
def test_the_command_that_brings_an_experiment_back_works_as_it_stands(home: Path, tmp_path: Path) -> None:
    client = open_home(home).client
    client.delete_experiment(client.get_experiment_by_name("repartee").experiment_id)
    with pytest.raises(InputError) as caught:
        open_home(home).open_run("f", "night", {}, {})
    command = str(caught.value).partition("restore it (")[2].partition(") or name")[0]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert open_home(home).open_run("f", "night", {}, {})


@pytest.mark.parametrize("name", ["o'neil", 'the "best"', "50% off #1 a=b &ü (x)", "`tick`", "x" * 200])
def test_homes_models_and_experiments_may_have_odd_names(home: Path, tmp_path: Path, name: str) -> None:
    odd = tmp_path / name
    home.rename(odd)
    registry = open_home(odd, model=name, experiment=name)
    assert register(registry, tmp_path, "f") == 1
    at = f"host:{odd}"
    run_id = registry.open_run("g", "night" * 100, {}, {tags.LOCATION: at})
    assert registry.open_runs("home", at) == [run_id]
    assert [version.number for version in registry.versions()] == [1]
    assert registry.folder(registry.find("champion"), tmp_path / "cache").is_dir()


def dump(home: Path) -> str:
    with closing(sqlite3.connect(home / "mlflow.db")) as written:
        return "\n".join(written.iterdump())
