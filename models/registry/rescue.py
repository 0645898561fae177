"""Rescues a damaged SQLite file: copies the data that can still be read to a new file."""

import logging
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from models import sqlite_files
from models.files import sync

log = logging.getLogger(__name__)


def rescue(path: Path, is_whole: Callable[[Path], bool]) -> bool:
    """Replace a damaged file with a new file that contains the readable data; return whether this succeeded.

    The new file is used only if `is_whole` accepts it. The damaged file is first copied to NAME.damaged. If
    no usable data can be read, only this copy remains, and an empty database is created when one is needed.
    """
    path = path.resolve()  # SQLite's companion files are beside the target of a symbolic link
    with sqlite_files.alone(path):
        damaged_copy = sqlite_files.copy_aside(path, "damaged")
        with sqlite_files.scratch(path) as folder:
            for number, read in enumerate((_by_the_shell, _row_by_row)):
                copy, new = folder / f"copy-{number}.db", folder / f"new-{number}.db"
                sqlite_files.copy(damaged_copy, copy)
                read(copy, new)
                if _is_sound(new) and is_whole(new):
                    sqlite_files.finish(new)
                    sqlite_files.remove(path)
                    new.replace(path)
                    sync(path.parent)
                    log.warning(
                        "%s was rebuilt from its readable data; the damaged file is now %s",
                        path,
                        damaged_copy,
                    )
                    return True
        sqlite_files.remove(path)
    log.warning("no data of %s could be read; the damaged file is now %s", path, damaged_copy)
    return False


def _is_sound(path: Path) -> bool:
    return sqlite_files.exists(path) and sqlite_files.damage(path) is None


def _by_the_shell(damaged: Path, new: Path) -> None:
    """Use the command `.recover`, which reads every page; only SQLite's shell, sqlite3, has this command."""
    shell = shutil.which("sqlite3")
    if shell is None:
        return
    read = subprocess.Popen(
        [shell, str(damaged), ".recover --ignore-freelist"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert read.stdout is not None
    with read.stdout:
        subprocess.run(
            [shell, str(new)],
            stdin=read.stdout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    if read.wait():
        log.info("%s could not recover %s", shell, damaged)


def _row_by_row(damaged: Path, new: Path) -> None:
    """Copy the rows of each table from both ends up to the nearest unreadable row."""
    with sqlite_files.opened(damaged) as old, closing(sqlite3.connect(new)) as target:
        old.text_factory = lambda text: text.decode("utf-8", "replace")  # damaged text may be invalid UTF-8
        try:
            schema = old.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL").fetchall()
        except sqlite3.DatabaseError as error:
            log.info("the tables of %s cannot be read (%s)", damaged, error)
            return
        for kind, name, statement in sorted(schema, key=lambda row: row[0] != "table"):
            if name.startswith("sqlite_"):
                continue
            try:
                target.execute(statement)
                if kind == "table":
                    _copy_rows(old, target, name)
            except sqlite3.DatabaseError as error:
                log.info("%s %s of %s is lost (%s)", kind, name, damaged, error)
        target.commit()


def _copy_rows(old: sqlite3.Connection, target: sqlite3.Connection, table: str) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    for row in _readable(old, quoted):
        marks = ", ".join("?" * len(row))
        target.execute(f"INSERT OR IGNORE INTO {quoted} VALUES ({marks})", row)


def _readable(old: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Yield the rows before the first and after the last damaged page. A row may be yielded twice."""
    for order in ("ASC", "DESC"):
        try:
            yield from old.execute(f"SELECT * FROM {table} ORDER BY rowid {order}")
        except sqlite3.DatabaseError as error:
            log.info("the table %s is only partly readable (%s)", table, error)
        else:
            return
