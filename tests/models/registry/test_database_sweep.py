"""Tests that commands work after `kill -9` at any moment in the creation or use of a home's database."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import sqlite_files
from models.registry import database
from models.registry.versions import Registry

pytestmark = pytest.mark.soak
ROOT = Path(__file__).resolve().parents[3]
KILLS = 25

WRITES = """
import sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store, mlflow.tracking.client
from models.registry.versions import Registry

home = Path(sys.argv[1])
print("ready", flush=True)
registry = Registry(f"sqlite:///{home}/mlflow.db", home / "mlartifacts")
run_id = registry.open_run("first", "night", {}, {})
print("done", flush=True)
for step in range(int(sys.argv[2])):
    run_id = registry.open_run(f"{step}", "night", {f"p{i}": "x" * 500 for i in range(90)}, {})
    registry.log_metrics(run_id, [(f"m{i}", 1.0, 1, i) for i in range(900)])
"""


def open_home(home: Path) -> Registry:
    return Registry(sqlite_files.address(home / "mlflow.db"), home / "mlartifacts")


def writer(home: Path, steps: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(home), str(steps)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    return process


def check(home: Path) -> None:
    looked = open_home(home)
    assert looked.versions() == []
    assert open_home(home).open_run("after", "night", {}, {}) == open_home(home).open_run(
        "after", "night", {}, {}
    )
    assert database.state(home / "mlflow.db") == "current"
    assert sqlite_files.damage(home / "mlflow.db") is None


def test_killed_in_a_new_home_while_its_database_is_created(tmp_path: Path) -> None:
    began_s = time.monotonic()
    whole = writer(tmp_path / "whole", 0)
    assert whole.stdout and whole.stdout.readline() == "done\n"
    whole_s = time.monotonic() - began_s
    whole.wait()
    seed = random.randrange(10**6)
    instants, killed = random.Random(seed), 0
    for number in range(KILLS):
        home = tmp_path / str(number)
        process = writer(home, 0)
        time.sleep(instants.uniform(0, whole_s))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        check(home)
        left = [path.name for path in home.iterdir() if path.name.startswith(".mlflow.db.new")]
        assert not left, f"seed {seed}, kill {number}"
        shutil.rmtree(home)
    assert killed, "every process had ended before it was killed"


def test_killed_while_it_writes(tmp_path: Path) -> None:
    home = tmp_path / "var"
    open_home(home).prepare()
    for number in range(KILLS):
        process = writer(home, 10**6)
        assert process.stdout and process.stdout.readline() == "done\n"
        time.sleep(random.uniform(0, 2))
        process.kill()
        assert process.wait() == -signal.SIGKILL, number
        check(home)
