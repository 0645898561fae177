"""New homes that already hold what each new home needs, because a command takes long to make it there.

The empty databases take 13 s of processor time, and the outputs of the tiny run (TINY in installation.py) 30 s.
"""

import os
import shutil

from filelock import FileLock
from installation import TINY, ask, settings

from deployments.local import prefect_database
from models.registry import database


class NewHomes:
    """Copies of two folders, each of which is filled once and shared by all test processes.

    Args:
        folder: a folder that all processes of one test session share.
    """

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, home, *, trained=False):
        """Fill a home and return it; `trained`: all stages before the gate of the tiny run are reused in it."""
        for part in ("databases", *(["trained"] if trained else [])):
            shutil.copytree(self._filled(part), home, dirs_exist_ok=True)
        database.prepare(home / "mlflow.db", home / "mlartifacts")  # its addresses lead into this home
        return home

    def _filled(self, part):
        filled = self.folder / part
        with FileLock(self.folder / f"{part}.lock"):
            if not filled.exists():
                partial = self.folder / f"{part}-{os.getpid()}"
                partial.mkdir()
                {"databases": _make_databases, "trained": self._train}[part](partial)
                partial.rename(filled)
        return filled

    def _train(self, folder):
        home = self(folder.with_name("tiny-run"))
        ask(home, "run", "--recipe", "quick", *settings(TINY["changes"]))
        shutil.move(home / "store", folder / "store")


def _make_databases(folder):
    (folder / "prefect").mkdir()
    prefect_database.prepare(folder / "prefect")
    database.create(folder / "mlflow.db", folder / "mlartifacts")
