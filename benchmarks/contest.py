"""Code that the comparisons share. It prepares the data, starts each training run as a separate process, and
records the results of the run."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from environment import quiet_environment

quiet_environment()

from flows.config import RetrainConfig  # noqa: E402
from flows.lifecycle.context import git_commit, open_run  # noqa: E402
from flows.lifecycle.graph import run_chain  # noqa: E402
from flows.prepare import DATA  # noqa: E402
from flows.recipes import configure  # noqa: E402
from models.metrics_log import METRICS, Reader  # noqa: E402
from models.text.config import DIALOGUE, Dialogue  # noqa: E402
from models.training.checkpoint import put_json  # noqa: E402
from models.training.launch import PRECISION  # noqa: E402
from models.training.precision import PrecisionChoice  # noqa: E402
from settings import Settings  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

Figures = dict[str, Any]


class Records:
    """The results of finished runs, in one file per run. A stopped comparison resumes from these files."""

    def __init__(self, folder: Path, settings: Figures) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        recorded = json.loads(path.read_text()) if path.exists() else {}
        for name, value in settings.items():
            if name in recorded and recorded[name] != value:
                sys.exit(f"{path} has {name} {recorded[name]}, not {value}; give a new folder as --out")
        put_json(path, {**recorded, **settings})

    def ensure(self, name: str, run: Callable[[Path], Figures]) -> Figures:
        """Return the results recorded under this name. If there are none, call `run`, which measures them in
        a temporary folder, and record them."""
        if name not in (known := self.all(name)):
            with tempfile.TemporaryDirectory() as work:
                began_s, load = time.monotonic(), os.getloadavg()[0]
                figures = {**run(Path(work)), "whole_s": time.monotonic() - began_s}
            # The load shows whether the machine was otherwise idle.
            about = {"commit": git_commit(), "load_before": load, "load_after": os.getloadavg()[0]}
            put_json(self.folder / f"{name}.json", {**figures, **about})
            known = self.all(name)
            brief = {key: value for key, value in known[name].items() if key != "curve"}
            print(f"{name} {json.dumps(brief)}", file=sys.stderr)
        return known[name]

    def all(self, pattern: str) -> dict[str, Figures]:
        """All records whose name matches the pattern, by name."""
        paths = sorted(self.folder.glob(f"{pattern}.json"))
        return {path.stem: json.loads(path.read_text()) for path in paths}


class Prepared(NamedTuple):
    """A configuration and the folders of its data stages."""

    config: RetrainConfig
    folders: dict[str, Path]

    @property
    def turns(self) -> Path:
        return self.folders["clean"] / "turns.parquet"


def prepare(recipe: str, corpus: str, changes: list[str]) -> Prepared:
    config = configure(recipe, corpus, changes)
    artifacts = run_chain(open_run(config, Settings()), DATA, in_flow=False)
    return Prepared(config, {name: artifact.path for name, artifact in artifacts.items()})


def probe(corpus: str, work: Path) -> Figures:
    """Return the precision that Repartee's trainer chooses on this machine. All training runs of a comparison
    use it."""
    start("models.training.trainer", str(write_run(work, prepare("small", corpus, ["train.max_steps=1"]))))
    return PrecisionChoice.read(work / PRECISION).model_dump()


def write_run(work: Path, data: Prepared, *, seed: int = 0, precision: str | None = None) -> Path:
    """Write a run folder for the trainer; if no precision is given, the trainer chooses the faster one."""
    config = data.config
    run = {
        "network": config.network.model_dump(),
        "train": {**config.train.model_dump(), "seed": seed},
        **Dialogue.read(data.folders["export"] / DIALOGUE).model_dump(),
        "tokenizer": str(data.folders["vocabulary"]),
        "examples": str(data.folders["export"]),
    }
    (work / "config.json").write_text(json.dumps(run))
    if precision:
        PrecisionChoice(precision=precision).write(work / PRECISION)
    return work


def two_cores() -> tuple[str, str]:
    """The numbers of the two cores that all comparisons run on."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the comparisons need two cores, but this process may use only one; start it on two cores")
    return str(cores[0]), str(cores[1])


def start(module: str, *arguments: str) -> None:
    """Run a module as a process on the two cores, and wait until the process ends."""
    environment = dict(os.environ)
    if module == "benchmarks.hf_trainer":
        # quiet_environment sets this variable for Repartee. It is removed here so that Trainer's threads
        # spin while they wait, which is their default.
        environment.pop("OMP_WAIT_POLICY", None)
    pinned = ["taskset", "-c", ",".join(two_cores())]
    command = [*pinned, sys.executable, "-m", module, *arguments]
    said = subprocess.PIPE  # kept out of standard output, where only the table is printed
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=said, stderr=said)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")


def metrics_of(work: Path) -> list[Figures]:
    """The lines of a run's metrics.jsonl."""
    return Reader(work / METRICS).read()


class Row(NamedTuple):
    """A row of the table: what was measured, the values from all runs, and the goal."""

    figure: str
    values: list[float]
    goal: str = ""
    reached: bool | None = None
    form: str = ",.2f"

    def __str__(self) -> str:
        middle = statistics.mean(self.values)
        low, high = min(self.values), max(self.values)
        spread = f"{low:{self.form}} to {high:{self.form}} of {len(self.values)}"
        verdict = {None: "", True: "ok", False: "no"}[self.reached]
        return f"| {self.figure} | {middle:{self.form}} | {spread} | {self.goal} | {verdict} |"


def at_least(figure: str, values: list[float], goal: float, form: str = ",.2f") -> Row:
    return Row(figure, values, f"at least {goal:{form}}", statistics.mean(values) >= goal, form)


def at_most(figure: str, values: list[float], goal: float, form: str = ",.2f") -> Row:
    return Row(figure, values, f"at most {goal:{form}}", statistics.mean(values) <= goal, form)


def table(rows: list[Row], records: Records) -> str:
    """The Markdown table, followed by a line that gives the machine's load and the measured commits."""
    runs = [run for name, run in records.all("*").items() if name != "settings"]
    head = ["| figure | mean | range, of n runs | goal | |", "| --- | --- | --- | --- | --- |"]
    loads = [run["load_before"] for run in runs]
    commits = sorted({run["commit"][:7] + "+" * run["commit"].endswith("+") for run in runs})
    below = f"Load before a run: {min(loads):.1f} to {max(loads):.1f}. Commit {', '.join(commits)}."
    return "\n".join([*head, *map(str, rows), "", below])
