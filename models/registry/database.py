"""MLflow's SQLite database: its state, creation and upgrade, and the artifact addresses in it.

The database stores absolute artifact addresses. They are corrected after a home has moved; see
docs/decisions/0013-a-home-can-move.md.
"""

import importlib.util
import logging
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from models import sqlite_files
from models.errors import InputError
from models.files import sync
from models.registry.tags import LOCATION

log = logging.getLogger(__name__)

State = Literal["absent", "unfinished", "older", "newer", "current", "foreign"]

WITHOUT_TABLES, WITH_TABLES = ("absent", "unfinished"), ("older", "newer", "current")
# MLflow creates these tables before it records the first schema revision.
FIRST_TABLES = {"experiments", "runs", "tags", "metrics", "params"}
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


@cache
def revisions() -> tuple[frozenset[str], str]:
    """Return all schema revisions of the installed MLflow, and the newest one, without importing MLflow."""
    package = importlib.util.find_spec("mlflow")
    assert package and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0], "store", "db_migrations", "versions")
    text = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    known, before = (
        set(re.findall(rf"^{name} = ['\"](\w+)['\"]", text, re.MULTILINE))
        for name in ("revision", "down_revision")
    )
    (newest,) = known - before
    return frozenset(known), newest


def state(path: Path) -> State:
    """The state of the database from the point of view of the installed MLflow.

    Raises:
        OSError, sqlite3.Error: the file cannot be used.
    """
    if not sqlite_files.exists(path):
        return "absent"
    known, newest = revisions()
    with sqlite_files.opened(path) as database:
        try:
            names = sqlite_files.tables(database)
            revision = sqlite_files.revision(database, names)
            is_used = _is_used(database, names)
        except sqlite3.OperationalError as error:
            if sqlite_files.is_locked(error):  # the database is in use; MLflow, too, waits for the lock
                return "current"
            raise
    if revision is None:
        names_left = names - sqlite_files.half_copied(names)
        is_known = names_left <= FIRST_TABLES | {"alembic_version"}
        return "foreign" if not is_known else "older" if is_used else "unfinished"
    if revision not in known:
        return "newer"
    if sqlite_files.half_copied(names):
        return "older" if is_used else "unfinished"
    return "current" if revision == newest else "older"


def prepare(path: Path, artifacts: Path | None) -> None:
    """Make the database usable by the installed MLflow, and point its artifact addresses into this home.

    Raises:
        InputError: the database was written by a newer MLflow, or cannot be upgraded.
        OSError, sqlite3.Error: the file cannot be used.
    """
    make_usable(path, artifacts)
    if artifacts is not None and (moved := moved_roots(path, artifacts)):
        readdress(path, artifacts, moved)


def is_ready(path: Path, artifacts: Path) -> bool:
    """Whether `prepare` has nothing to change. This check does not import MLflow."""
    return state(path) == "current" and not moved_roots(path, artifacts)


def make_usable(path: Path, artifacts: Path | None) -> None:
    """Create or upgrade the database if necessary.

    Raises:
        InputError: the database was written by a newer MLflow, or cannot be upgraded.
    """
    found = state(path)
    if found in WITHOUT_TABLES:
        create(path, artifacts)
    if found == "newer":
        raise InputError(newer_message(path))
    if found == "older":
        _upgrade(path, artifacts)


def newer_message(store: Path | str) -> str:
    return (
        f"{store} was written by a newer MLflow than the installed {version('mlflow')}, which cannot read "
        "it; use the installation that wrote it, or another home: export REPARTEE_HOME=/another/folder"
    )


def create(path: Path, artifacts: Path | None) -> None:
    """Create the database with all tables, unless another process creates it in the meantime."""
    root = artifacts or path.parent / "mlartifacts"

    def build(new: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(sqlite_files.address(new), root.absolute().as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(store.db_uri, None)  # its address is wrong once the file is renamed

    sqlite_files.create(path, build, lambda path_there: state(path_there) in WITHOUT_TABLES)


def _upgrade(path: Path, artifacts: Path | None) -> None:
    """Upgrade a copy, write it back in one transaction, and keep the old database under another name."""
    with sqlite_files.alone(path):
        if state(path) != "older":  # another process has upgraded it
            return
        with sqlite_files.scratch(path) as folder:
            old, new = folder / "old.db", folder / path.name
            _copy(path, old)
            _copy(old, new)
            try:
                _migrate(new)
            except Exception as error:
                _handle_failed_upgrade(path, " ".join(str(error).split()))
            else:
                backup = sqlite_files.free_name(path, "older")
                old.rename(backup)
                _copy(new, path)
                log.warning(
                    "%s was written by an older MLflow and has been upgraded; the old database is now %s",
                    path,
                    backup,
                )
                return
    create(path, artifacts)


def _handle_failed_upgrade(path: Path, why: str) -> None:
    """Set aside a database that has neither runs nor models.

    Raises:
        InputError: the database has runs or models, and is therefore left unchanged.
    """
    with sqlite_files.opened(path) as database:
        is_used = _is_used(database, sqlite_files.tables(database))
    if is_used:
        raise InputError(
            f"{path} was written by another version of MLflow and cannot be upgraded ({why[:160]}); "
            f"it is unchanged; for details run: mlflow db upgrade {shlex.quote(sqlite_files.address(path))}"
        )
    log.warning("%s has no runs and cannot be upgraded (%s), so it is set aside", path, why[:300])
    sqlite_files.set_aside(path, "unfinished")


def _migrate(path: Path) -> None:
    from mlflow.store.db.utils import _upgrade_db, create_sqlalchemy_engine

    with closing(sqlite3.connect(path)) as database:
        names = sqlite_files.tables(database)
        for name in sqlite_files.half_copied(names):
            if name.removeprefix("_alembic_tmp_") in names:  # the original table still exists
                database.execute(f'DROP TABLE "{name}"')
    engine = create_sqlalchemy_engine(sqlite_files.address(path))  # type: ignore[no-untyped-call]
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def _copy(source: Path, target: Path) -> None:
    """Copy a whole database into another database, in one transaction."""
    into = sqlite3.connect(target, timeout=sqlite_files.BUSY_SECONDS)
    with closing(into), sqlite_files.opened(source) as database:
        database.backup(into)
    sync(target)


def _is_used(database: sqlite3.Connection, names: set[str]) -> bool:
    """Whether the database contains any run or model."""
    return any(
        database.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()
        for name in names & {"runs", "registered_models"}
    )


def local_folder(uri: str, path: Path | None, artifacts: Path | None) -> Path | None:
    """The artifact's path on this machine, even after the home has moved; None if it is stored elsewhere."""
    recorded = _local(uri)
    if recorded is None or artifacts is None:
        return recorded
    match = re.fullmatch(rf".*/{re.escape(artifacts.name)}(?:/(.*))?", str(recorded))
    if match is None:
        return recorded
    current = artifacts / (match[1] or "")
    if path is not None and path.absolute().parent == artifacts.absolute().parent:
        return recorded if recorded.exists() and not current.exists() else current
    return current if current.exists() and not recorded.exists() else recorded


def moved_roots(path: Path, artifacts: Path) -> list[str]:
    """The roots of artifact addresses that still lead to the home from which this one was moved or copied."""
    if path.absolute().parent != artifacts.absolute().parent:
        return []
    with sqlite_files.opened(path) as database:
        names = sqlite_files.tables(database)
        recorded = {
            address
            for table, column in ADDRESSES
            if table in names
            for (address,) in database.execute(f"SELECT DISTINCT {column} FROM {table}")
            if address
        }
    roots: dict[str, list[str]] = {}
    for address in recorded:
        if match := re.fullmatch(rf"((?:file:)?/.*/{re.escape(artifacts.name)})(?:/(.*))?", address):
            roots.setdefault(match[1], []).append(match[2] or "")
    return sorted(root for root, inner in roots.items() if _is_moved(root, inner, artifacts))


def _is_moved(root: str, inner: list[str], artifacts: Path) -> bool:
    recorded = _local(root)
    if recorded is None or recorded == artifacts.absolute():
        return False
    if not recorded.exists():
        return True
    if artifacts.exists() and recorded.samefile(artifacts):  # two paths to the same folder
        return False
    # A user may store artifacts at that root on purpose. If they are in this home, too, this home is a copy.
    return any((artifacts / url2pathname(name)).exists() for name in inner if name)


def readdress(path: Path, artifacts: Path, roots: list[str]) -> None:
    """Replace these roots in all artifact addresses by this home's root, in one transaction."""
    current = artifacts.absolute()
    with sqlite_files.opened(path) as database, database:
        database.execute("BEGIN IMMEDIATE")
        names = sqlite_files.tables(database)
        for root in roots:
            for table, column in ADDRESSES:
                if table in names:
                    database.execute(
                        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                        f"WHERE {column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'",
                        {"old": root, "new": current.as_uri()},
                    )
            before = _local(root)
            assert before is not None
            database.execute(
                "UPDATE tags SET value = substr(value, 1, length(value) - length(:old)) || :new "
                "WHERE key = :key AND substr(value, -length(:old)) = :old",
                {"key": LOCATION, "old": f":{before.parent}", "new": f":{current.parent}"},
            )
            log.warning(
                "%s was moved from %s; its artifact addresses now lead to %s", path, before.parent, current
            )


def _local(uri: str) -> Path | None:
    if uri.startswith("/"):
        return Path(uri)
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


if __name__ == "__main__":  # started by long-lived processes that must not import MLflow themselves
    try:
        prepare(Path(sys.argv[1]), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(str(error))
