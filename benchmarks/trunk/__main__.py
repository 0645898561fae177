"""Measures whether nights add up: nights of `--init trunk`, beside as many of `--init champion`, and one
training from random weights.

    python -m benchmarks.trunk CORPUS --out FOLDER [--recipe small] [--minutes 10] [--nights 8]
        [--champion-nights 3] [--scratch-minutes 30]

Each night is the command `repartee run`, with its gate, on two cores. The three ways are three model lines of
the home FOLDER/home, so they share the prepared data. The first night of `champion` starts from random
weights, and each of its nights has a seed of its own: with the same seed, a night after a refusal would end
as unchanged. Finished nights are recorded in FOLDER and not repeated; a night that was killed is continued.

For each night, the table shows the score of the model that was trained and the score of the champion
afterwards, both in bits per byte on the whole test split.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.contest import ROOT, Figures, Records, Row, at_most, table, two_cores
from models.evaluation.verdict import DEFAULT_MARGIN
from tasks.trunk.chain import trunks

MARGIN = DEFAULT_MARGIN
MAX_MB = 25
TRUNK, CHAMPION, SCRATCH = "trunk", "champion", "scratch"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trunk")
    parser.add_argument("corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--nights", type=int, default=8)
    parser.add_argument("--champion-nights", type=int, default=3)
    parser.add_argument("--scratch-minutes", type=float, default=30)
    arguments = parser.parse_args()
    settings = {"corpus": arguments.corpus, "recipe": arguments.recipe, "minutes": arguments.minutes}
    records = Records(arguments.out / "nights", {**settings, "scratch_minutes": arguments.scratch_minutes})
    home = arguments.out.resolve() / "home"
    run = partial(spend, home=home, recipe=arguments.recipe, corpus=arguments.corpus)
    for number in range(1, max(arguments.nights, arguments.champion_nights) + 1):
        if number <= arguments.nights:
            night = partial(run, line=TRUNK, init=TRUNK, minutes=arguments.minutes)
            records.ensure(f"{TRUNK}-{number}", night)
        if number <= arguments.champion_nights:
            init = SCRATCH if number == 1 else CHAMPION
            night = partial(run, line=CHAMPION, init=init, minutes=arguments.minutes, seed=number - 1)
            records.ensure(f"{CHAMPION}-{number}", night)
    records.ensure(SCRATCH, partial(run, line=SCRATCH, init=SCRATCH, minutes=arguments.scratch_minutes))
    print(table(rows(records), records))


def spend(
    _work: Path, *, home: Path, recipe: str, corpus: str, line: str, init: str, minutes: float, seed: int = 0
) -> Figures:
    """One run of a model line, and the scores after it."""
    options = ["--recipe", recipe, "--corpus", corpus, "--line", line, "--init", init, "--json", "--quiet"]
    changes = [f"--set=train.max_minutes={minutes}", f"--set=train.seed={seed}"]
    command = ["taskset", "-c", ",".join(two_cores()), sys.executable, "-m", "cli", "run"]
    environment = {**os.environ, "REPARTEE_HOME": str(home)}
    done = subprocess.run(
        [*command, *options, *changes], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"the run of the line {line} ended with status {done.returncode}; its message is above")
    outcome = json.loads(done.stdout)
    bpb = {
        "promoted": outcome["metrics"]["test_bpb"],
        "refused": outcome["champion_metrics"].get("test_bpb"),
    }
    return {
        "outcome": outcome["outcome"],
        "reason": outcome["reason"],
        "training": outcome["training"],
        "bpb": outcome["metrics"]["test_bpb"],
        "champion_bpb": bpb.get(outcome["outcome"]),  # None: the champion stays, and was not scored
        "stored_mb": stored_mb(home, line),
    }


def stored_mb(home: Path, line: str) -> float:
    """The size of all that is stored of the trunks of a line, in megabytes."""
    folders = [each.folder for each in trunks(home) if each.line == line]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


def nights_of(records: Records, way: str) -> list[Figures]:
    """The nights of one way, the first one first. If a champion was not scored, it is that of the night
    before."""
    found = records.all(f"{way}-[0-9]*")
    nights: list[Figures] = []
    for name in sorted(found, key=lambda name: int(name.rpartition("-")[2])):
        night = found[name]
        if night["champion_bpb"] is None:
            night = {**night, "champion_bpb": nights[-1]["champion_bpb"]}
        nights.append(night)
    return nights


def rows(records: Records) -> list[Row]:
    ours, theirs = nights_of(records, TRUNK), nights_of(records, CHAMPION)
    lines = []
    for way, nights in ((TRUNK, ours), (CHAMPION, theirs)):
        for number, night in enumerate(nights, start=1):
            label = f"`--init {way}`, night {number}, {night['outcome']}"
            lines.append(Row(f"{label}: the model", [night["bpb"]], form=".4f"))
            lines.append(Row(f"{label}: the champion afterwards", [night["champion_bpb"]], form=".4f"))
    [scratch] = records.all(SCRATCH).values()
    minutes = records.all("settings")["settings"]["scratch_minutes"]
    lines.append(Row(f"{minutes:g} minutes from random weights", [scratch["bpb"]], form=".4f"))
    return [*lines, *goals(ours, theirs, scratch["bpb"])]


def goals(ours: list[Figures], theirs: list[Figures], scratch_bpb: float) -> list[Row]:
    """The figures that have goals."""
    lines = []
    for number, (own, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        label = f"champion after night {number}: `--init trunk` minus `--init champion`"
        goal = -MARGIN if number >= 3 else 0.0
        lines.append(at_most(label, [own["champion_bpb"] - other["champion_bpb"]], goal, ".4f"))
    last = ours[-1]["champion_bpb"] - scratch_bpb
    label = f"champion after {len(ours)} nights minus training from random weights"
    lines.append(at_most(label, [last], -0.03, ".4f"))
    rises = [after["champion_bpb"] - before["champion_bpb"] for before, after in pairwise(ours)]
    if rises:
        lines.append(at_most("largest rise of the champion from night to night", [max(rises)], MARGIN, ".4f"))
    lines.append(at_most("megabytes stored of the trunk", [max(each["stored_mb"] for each in ours)], MAX_MB))
    return lines


if __name__ == "__main__":
    main()
