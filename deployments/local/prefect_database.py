"""The Prefect database of a home, which is created under a temporary name and then renamed.

If a server were killed while creating the tables under the final name, it would leave an incomplete database
behind, and no later server could start with that database.
"""

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

OTHER_DATABASE = re.compile(r"PREFECT_(API|SERVER)_DATABASE_(CONNECTION_URL|HOST|NAME)")


def prepare(folder: Path) -> None:
    """Make sure that `prefect.db` in this folder has all tables, unless another database is configured.

    Raises:
        InputError: Prefect could not create the database; the message quotes Prefect's last line of output.
    """
    if any(OTHER_DATABASE.fullmatch(name) and value for name, value in os.environ.items()):
        return
    path = folder / "prefect.db"
    set_damaged_aside(path)
    if is_missing(path):
        sqlite_files.create(path, partial(_build, folder), is_missing)


def set_damaged_aside(path: Path) -> None:
    """Rename the database if it is damaged, so that Prefect creates a new, empty one."""
    if sqlite_files.exists(path) and (damage := sqlite_files.damage(path)):
        copy = sqlite_files.free_name(path, "damaged")
        sqlite_files.set_aside(path, "damaged")
        log.warning(
            "%s is damaged (%s): Prefect starts with an empty history; the old file is now %s",
            path,
            damage,
            copy,
        )


def is_missing(path: Path) -> bool:
    """Whether there is no database, or only an incomplete database that contains no runs."""
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
    except sqlite3.DatabaseError:  # the database is in use or damaged; the server will report this
        return False


def is_whole(path: Path) -> bool:
    """Whether a server can use this database."""
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
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(
            f"Prefect cannot create its database in {folder}: {lines[-1][:200] if lines else ''} (log: {log})"
        )
