"""Prefect's database of a home, created whole: a server that is killed while it creates its tables in place
leaves some of them, over which no later one starts."""

import logging
import os
import re
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

from models import sqlite_files
from models.errors import InputError

log = logging.getLogger(__name__)

ELSEWHERE = re.compile(r"PREFECT_(API|SERVER)_DATABASE_(CONNECTION_URL|HOST|NAME)")


def prepare(folder: Path) -> None:
    """`prefect.db` is in the folder with all of its tables, unless another database is configured.

    Raises:
        InputError: Prefect could not create it; its last words are in the line.
    """
    if any(ELSEWHERE.fullmatch(name) and value for name, value in os.environ.items()):
        return
    path = folder / "prefect.db"
    set_damaged_aside(path)
    if is_missing(path):
        sqlite_files.create(path, partial(_build, folder), is_missing)


def set_damaged_aside(path: Path) -> None:
    """The database holds what was, and decides nothing: a damaged one makes room for a new one."""
    if sqlite_files.exists(path) and (damage := sqlite_files.damage(path)):
        kept = sqlite_files.free_name(path, "damaged")
        sqlite_files.set_aside(path, "damaged")
        log.warning(
            "%s is damaged (%s): Prefect's history begins anew, the old file is %s", path, damage, kept
        )


def is_missing(path: Path) -> bool:
    """Whether there is no database, or only some tables of one that hold nothing."""
    if not sqlite_files.exists(path):
        return True
    try:
        with sqlite_files.opened(path) as database:
            names = sqlite_files.tables(database)
            if sqlite_files.revision(database, names) and not sqlite_files.half_copied(names):
                return False
            return (
                "flow_run" not in names or not database.execute("SELECT 1 FROM flow_run LIMIT 1").fetchone()
            )
    except sqlite3.DatabaseError:  # in use, or damaged: there is one, and the server says what it is
        return False


def is_whole(path: Path) -> bool:
    """Whether a server can go on with it."""
    with sqlite_files.opened(path) as database:
        names = sqlite_files.tables(database)
        return "flow_run" in names and sqlite_files.revision(database, names) is not None


def _build(folder: Path, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
        env={
            **os.environ,
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": "",
            "PREFECT_API_DATABASE_CONNECTION_URL": sqlite_files.address(path).replace(
                "sqlite:", "sqlite+aiosqlite:", 1
            ),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        log = folder / "create.log"
        log.write_text(done.stdout + done.stderr)
        said = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(
            f"Prefect cannot create its database in {folder}: {said[-1][:200] if said else ''} ({log})"
        )
