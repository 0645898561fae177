"""SQLite files: atomic creation, recovery after a crash, and copies that include the companion files."""

import logging
import os
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import InputError
from models.files import sync

log = logging.getLogger(__name__)

SCHEME = "sqlite:///"
COMPANIONS = ("-journal", "-wal", "-shm")  # suffixes of the files that SQLite keeps beside a database in use
BUSY_SECONDS = 20  # MLflow also waits 20 s for a locked database
WAIT_SECONDS = 300  # on a busy machine, creating a database takes up to a minute
CREATED, LOCK = ".new-", ".lock"  # for a database NAME: the folder .NAME.new-RANDOM, the file .NAME.lock


def address(path: Path) -> str:
    """The address (URL) of a SQLite file in the form that SQLAlchemy reads.

    Raises:
        InputError: no address can contain this path.
    """
    if "?" in str(path):
        raise InputError(
            f"the path {path} contains a question mark, which cannot be part of a SQLite address; "
            "choose a folder without a question mark: export REPARTEE_HOME=/another/folder"
        )
    return f"{SCHEME}{path}"


def file_of(uri: str) -> Path | None:
    """The file to which a SQLAlchemy address refers, or None if `uri` does not name a SQLite file."""
    scheme, found, rest = uri.partition(":///")
    name = rest.partition("?")[0]
    if not found or scheme.partition("+")[0] != "sqlite" or name in ("", ":memory:"):
        return None
    return Path(name)


def exists(path: Path) -> bool:
    """Whether there is a database at this path; an empty file does not count.

    Raises:
        OSError: a part of the path is not a folder, or the path is too long.
    """
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def is_locked(error: Exception) -> bool:
    """Whether the error means that another process uses the database."""
    return "is locked" in str(error)


def is_damaged(message: str) -> bool:
    return any(words in message for words in ("malformed", "not a database", "disk I/O error"))


def remedy(message: str) -> str:
    """What a user can do about an error, given SQLite's error message."""
    if is_damaged(message):
        return "rescue the database's readable data with `repartee doctor --fix`"
    if "is locked" in message:
        return "end the other program that is writing to the database, or wait until it has finished"
    if "is full" in message:
        return "free some space on the database's disk, and run the same command again"
    return "make the database file and its folder writable"


@contextmanager
def opened(path: Path, timeout_s: float = BUSY_SECONDS) -> Iterator[sqlite3.Connection]:
    """Yield a connection to a database, in read-write mode if the file is writable.

    Only a connection in this mode can roll back a hot journal, that is, a journal that a crash left.
    """
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=timeout_s)) as database:
        yield database


def tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows if not name.startswith("sqlite_")}


def half_copied(names: set[str]) -> set[str]:
    """The tables that Alembic was copying when its process ended."""
    return {name for name in names if name.startswith("_alembic_tmp_")}


def revision(database: sqlite3.Connection, names: set[str]) -> str | None:
    """The schema revision that Alembic has recorded, or None if no migration has finished."""
    if "alembic_version" not in names:
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def damage(path: Path) -> str | None:
    """What is wrong with the file; None if it is intact or locked. The check rolls back a hot journal."""
    try:
        with opened(path) as database:
            answer = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return None if is_locked(error) else str(error)
    return None if answer == "ok" else " ".join(answer.split())


def create(path: Path, build: Callable[[Path], None], is_missing: Callable[[Path], bool]) -> None:
    """Build a database under another name and move it to `path`, unless another process creates it first.

    An unfinished database that is already at the path is set aside. If this process is killed, it leaves no
    unfinished database at the path, and the next call starts from scratch.

    Raises:
        InputError: another process has held the lock for minutes.
    """
    path = path.resolve()  # so that the database itself is replaced, not a symbolic link to it
    with alone(path):
        if not is_missing(path):
            return
        with scratch(path) as folder:
            new = folder / path.name
            build(new)
            finish(new)
            set_aside(path, "unfinished")
            new.replace(path)
            sync(path.parent)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Prevent other processes from creating, upgrading or rescuing this file during the `with` block.

    The kernel releases the lock when the process ends.

    Raises:
        InputError: another process has held the lock for minutes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path.with_name(f".{path.name}{LOCK}"))
    try:
        held.acquire(timeout=1)
    except Timeout:
        log.info("waiting for another process that is creating or repairing %s", path)
        try:
            held.acquire(timeout=WAIT_SECONDS)
        except Timeout:
            raise InputError(
                f"another process has been creating or repairing {path} for {WAIT_SECONDS // 60} minutes; "
                f"find this process and end it: fuser -v {shlex.quote(held.lock_file)}"
            ) from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Remove temporary folders of dead processes, then yield a new folder. Call this within `alone`."""
    for left in path.parent.glob(f".{path.name}{CREATED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}{CREATED}", dir=path.parent) as folder:
        yield Path(folder)


def finish(path: Path) -> None:
    """Write the database's write-ahead log into the database file, and sync that file to the disk."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(path)


def set_aside(path: Path, why: str) -> None:
    """Rename a database and its companion files, so that an old journal is never applied to a new file."""
    target = free_name(path, why)
    for old, end in _parts(path):
        old.rename(target.with_name(target.name + end))


def copy_aside(path: Path, why: str) -> Path:
    """Copy a database and its companion files byte for byte; return the path of the copy."""
    target = free_name(path, why)
    copy(path, target)
    sync(path.parent)
    return target


def copy(path: Path, target: Path) -> None:
    for old, end in _parts(path):
        copied = target.with_name(target.name + end)
        shutil.copy2(old, copied)
        sync(copied)


def remove(path: Path) -> None:
    """Remove a database file and its companion files."""
    for old, _ in _parts(path):
        old.unlink()


def _parts(path: Path) -> list[tuple[Path, str]]:
    """Return a pair for each existing file of the database: its path, and its suffix after the main name."""
    named = [(path.with_name(path.name + end), end) for end in ("", *COMPANIONS)]
    return [(part, end) for part, end in named if part.exists()]


def free_name(path: Path, why: str) -> Path:
    """Return an unused path beside the file: NAME.WHY, or if that exists, NAME.WHY-2 and so on."""
    names = (
        path.with_name(f"{path.name}.{why}{number}") for number in ("", *(f"-{i}" for i in range(2, 1000)))
    )
    return next(name for name in names if not name.exists())
