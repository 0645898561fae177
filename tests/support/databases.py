"""Makes databases that are in the state in which a killed process leaves them."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest


def in_a_process_that_dies(script: str, *words: object) -> None:
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


DIES_WHILE_IT_WRITES = """
import os, signal, sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.execute("PRAGMA cache_size = 1")
writer.execute("BEGIN IMMEDIATE")
writer.execute("UPDATE tags SET value = hex(randomblob(3000))")
writer.execute("CREATE TABLE filler AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
               " SELECT hex(randomblob(2000)) AS text FROM n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_a_hot_journal(path: Path) -> None:
    in_a_process_that_dies(DIES_WHILE_IT_WRITES, path)
    assert path.with_name(f"{path.name}-journal").stat().st_size
    with (
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        reader.execute("PRAGMA schema_version")
