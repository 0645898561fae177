"""Garbage collection in a thread of its own, for a server that uses SQLite from an event loop.

Python collects garbage in whichever thread allocates memory, usually that of the event loop. If the garbage
contains a cursor of a database connection, the collector waits for this connection. The connection may be
waiting for the write lock of the database, for up to a minute, in a thread of its own, and the request that
holds the write lock waits for the event loop: nothing in the server continues until SQLite gives up. In a
separate thread, the collector can wait without stopping the event loop.
"""

import gc
import itertools
import threading
import time

SECONDS = 1.0  # between two collections of young objects
FULL_EVERY = 30  # collections; a full one takes longer and stops all threads


def collect_in_thread() -> None:
    """Collect garbage in a new thread from now on, and never in another one.

    Call this function once everything has been imported: what exists now is never examined again.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    threading.Thread(target=_collect, daemon=True, name="garbage collector").start()


def _collect() -> None:
    for number in itertools.count(1):
        time.sleep(SECONDS)
        gc.collect(2 if number % FULL_EVERY == 0 else 1)
