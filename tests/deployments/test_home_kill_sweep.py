"""A run in a new home is killed at random moments, and each time the same command resumes it.

All processes of the home are killed at once: the command, the trainer and the server. The log names the random
seed. `KILL_SWEEP_SEED=N` repeats the sweep with that seed, and `--stepwise` continues with the home at which a
sweep failed.
"""

import json
import logging
import os
import random
import sqlite3
import subprocess
import time
from itertools import pairwise

import pytest
from installation import TINY, ask, command, kill_everything, left_of

from flows.config import flatten

pytestmark = [pytest.mark.soak, pytest.mark.flow]
log = logging.getLogger(__name__)

SEED = int(os.environ.get("KILL_SWEEP_SEED") or int.from_bytes(os.urandom(4)))
TRAIN = {"max_steps": 40, "max_minutes": None, "checkpoint_seconds": 1e-9, "log_every": 1}
CHANGES = flatten(TINY["changes"] | {"train": TRAIN})
CHANGED = [f"--set={key}={json.dumps(value)}" for key, value in CHANGES.items()]
WORDS = ["run", "--recipe", "quick", "--json", *CHANGED]

FILES = {"Prefect's database": "prefect/*.db*", "MLflow's database": "*mlflow.db*"}
LINES = {
    "data": "download: ",
    "training": "train: ",
    "steps": "  loss ",
    "evaluation": "evaluate: ",
    "gate": "gate: ",
    "upload": "register: writing",
    "promotion": " is stored",
    "end": " is the champion now",
}
PHASES = [
    "start",
    "Prefect's database",
    "data",
    "MLflow's database",
    "training",
    "steps",
    "evaluation",
    "gate",
    "upload",
    "promotion",
    "end",
]
"""The phases of a run in order; FILES and LINES hold the file or the log text that marks each phase."""
HOMES = [
    ["data", "MLflow's database", "MLflow's database", "steps", "promotion"],
    ["start", "Prefect's database", "data", "training", "upload"],
    ["Prefect's database", "MLflow's database", "steps", "gate", "end"],
    ["MLflow's database", "MLflow's database", "steps", "upload", "promotion"],
    ["Prefect's database", "MLflow's database", "training", "evaluation", "promotion"],
]
"""The phases in which the runs of each new home are killed; 25 kills in all."""


class Command:
    """A new process that runs the same command every time."""

    def __init__(self, home):
        self.home, self.began_ns = home, time.time_ns()
        self.errors = home.parent / f"{home.name}-{self.began_ns}.log"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(**command(home, *WORDS), stdout=subprocess.PIPE, stderr=errors)

    def reaches(self, phase):
        """Wait; returns whether this phase or a later one begins before the command ends."""
        while True:
            has_ended = self.process.poll() is not None
            if any(self.is_in(each) for each in PHASES[PHASES.index(phase) :]):
                return True
            if has_ended:
                return False
            time.sleep(0.005)

    def is_in(self, phase):
        if phase in LINES:
            return LINES[phase] in self.errors.read_text()
        return phase == "start" or any(self.is_new(path) for path in self.home.glob(FILES[phase]))

    def is_new(self, path):
        try:
            return path.stat().st_ctime_ns > self.began_ns
        except FileNotFoundError:
            return False

    def is_killed(self, phase, after_s):
        """Kill the command `after_s` seconds into the phase; returns False if it had already ended."""
        if self.reaches(phase):
            try:
                self.process.wait(after_s)
            except subprocess.TimeoutExpired:
                kill_everything(self.home)
                self.process.communicate()
                log.warning("%skilled %.3f s into: %s", self.errors.read_text(), after_s, phase)
                return True
        self.result()
        return False

    def result(self):
        out, _ = self.process.communicate()
        log.warning("%s", self.errors.read_text())
        assert self.process.returncode == 0, self.errors.read_text()
        return json.loads(out)


class Whole:
    """An uninterrupted run: its results, and the duration of each of its phases."""

    def __init__(self, home):
        self.home = home
        process, instants = Command(home), []
        for phase in PHASES:
            assert process.reaches(phase), process.errors.read_text()
            instants.append(time.monotonic())
        stages = {stage["name"]: stage for stage in process.result()["stages"]}
        instants.append(time.monotonic())
        took = (end - begin for begin, end in pairwise(instants))
        self.seconds = dict(zip(PHASES, took, strict=True))
        self.work = f"runs/{stages['train']['fingerprint']}"
        summary = home / "store" / "train" / stages["train"]["fingerprint"] / "logs" / "summary.json"
        self.precision = {"precision": json.loads(summary.read_text())["precision"]}
        log.warning("KILL_SWEEP_SEED=%d, seconds of an uninterrupted run: %s", SEED, self.seconds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("sweep") / "whole"
    home.mkdir()
    return Whole(home)


def rows(home, statement, file="mlflow.db"):
    database = sqlite3.connect(home / file)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def curves(home):
    """The points of all curves that depend neither on the speed of the machine nor on its load."""
    repeatable = "key not like '%second%' and key not like 'system/%'"
    return rows(home, f"select key, step, value from metrics where {repeatable} order by key, step, value")


def weights(home):
    (found,) = home.glob("mlartifacts/models/*/artifacts/model.safetensors")
    return found.read_bytes()


def assert_whole(home, whole):
    """Assert that the same command succeeds, with the same results as the uninterrupted run."""
    result = Command(home).result()
    assert result["outcome"] in ("promoted", "unchanged") and result["version"] == 1, result
    assert not left_of(home)
    for file in ("mlflow.db", "prefect/prefect.db"):
        assert rows(home, "pragma integrity_check", file) == [("ok",)]
    assert rows(home, "select version from model_versions") == [(1,)]
    assert rows(home, "select alias, version from registered_model_aliases") == [("champion", 1)]
    history = json.loads(ask(home, "history", "--json"))["history"]
    assert [(entry["version"], entry["previous"]) for entry in history] == [(1, None)]
    assert rows(home, "select status from runs") == [("FINISHED",)]
    assert curves(home) == curves(whole.home)
    assert weights(home) == weights(whole.home)
    open_runs = "select name from flow_run where state_type not in ('COMPLETED', 'CRASHED', 'FAILED')"
    assert rows(home, open_runs, "prefect/prefect.db") == []
    assert not list((home / "runs").iterdir()) and not list(home.glob("store/**/.tmp-*"))
    found = json.loads(ask(home, "doctor", "--json"))
    assert found["healthy"], [check for check in found["checks"] if check["faults"]]


@pytest.mark.parametrize("number", range(len(HOMES)))
def test_killed_at_random_instants_the_same_command_goes_on_to_one_version(whole, tmp_path, number):
    homes = (new_home(tmp_path / str(life), whole) for life in range(100))
    chances = random.Random(f"{SEED}-{number}")
    home = next(homes)
    for phase in HOMES[number]:
        after_s = chances.random() * whole.seconds[phase]
        while not Command(home).is_killed(phase, after_s):
            # The command ended before the kill, so the next home is killed sooner.
            assert_whole(home, whole)
            home, after_s = next(homes), after_s / 2
    assert_whole(home, whole)


def new_home(home, whole):
    (home / whole.work).mkdir(parents=True)
    # A run chooses its precision by measured speed, so the test fixes the choice.
    (home / whole.work / "precision.json").write_text(json.dumps(whole.precision))
    return home
