"""A server that uses SQLite from an event loop is not stopped by its own garbage collection."""

import subprocess
import sys

import pytest

# A request holds the write lock of a database, and another one waits for it. A cursor of the waiting connection
# is garbage. While the event loop collects it, the first request cannot give the lock back.
SCRIPT = """
import asyncio, os, sqlite3, sys
import aiosqlite
from deployments.local import garbage

async def main(path):
    if sys.argv[2] == "in a thread":
        garbage.SECONDS = 0.2
        garbage.collect_in_thread()
    holding = await aiosqlite.connect(path, isolation_level=None)
    waiting = await aiosqlite.connect(path, isolation_level=None)
    await holding.execute("PRAGMA journal_mode = WAL")
    await waiting.execute(f"PRAGMA busy_timeout = {sys.argv[3]}")
    await holding.execute("CREATE TABLE t (x)")
    cycle = [await waiting.execute("SELECT 1 UNION ALL SELECT 2")]
    await cycle[0].fetchone()  # one more row follows, so the statement will have to be reset
    cycle.append(cycle)
    await holding.execute("BEGIN IMMEDIATE")
    other = asyncio.create_task(waiting.execute("BEGIN IMMEDIATE"))
    await asyncio.sleep(0.5)
    del cycle
    for _ in range(20):
        objects = [[] for _ in range(200_000)]  # so many that Python collects garbage
        await asyncio.sleep(0.05)
    await holding.execute("COMMIT")
    try:
        await other
        print("granted")
    except sqlite3.OperationalError as error:
        print(error)

try:
    asyncio.run(main(sys.argv[1]))
finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the threads of the connections would keep the process alive
"""


# The request in the event loop waits until its time is over, so this time is short; the other one is so long that
# a slow machine does not reach it.
@pytest.mark.parametrize(
    ("where", "busy_ms", "answer"),
    [("in a thread", 300_000, "granted"), ("in the event loop", 3_000, "database is locked")],
)
def test_garbage_with_a_cursor_stops_the_event_loop_only_if_the_loop_collects_it(
    tmp_path, where, busy_ms, answer
):
    words = [sys.executable, "-c", SCRIPT, tmp_path / "x.db", where, str(busy_ms)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == answer, done
