"""Measures the data half: what it takes to turn raw conversations into examples, once and when data is added.

python -m benchmarks.corpus.data CORPUS --out FOLDER [--sizes 1 10] [--repeats 1] [--recipe small]
    CORPUS is a zip in the Cornell layout. With `--sizes 1 10` and one repetition, it takes half an hour.

Every run is a process of its own on one core, with a home of its own. CPU seconds are those of the stages,
without the imports. Each finished run is recorded in FOLDER, and the same command resumes a stopped
measurement. The corpora of several sizes are folders of JSON Lines (benchmarks/corpus/enlarged.py).
"""

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import ROOT, Figures, Records, Row, at_least, at_most, table
from benchmarks.corpus import enlarged

INSPECTED_BYTES = 100_000_000
STAGES = "benchmarks.corpus.data_stages"
SIZE = "{size}x as JSON Lines, {recipe}"


def on_one_core(*command: str, home: Path | None = None) -> list[Figures]:
    """Run a Python module as a process on one core; return the JSON lines that it prints."""
    core = str(min(os.sched_getaffinity(0)))
    environment = {**os.environ, **({"REPARTEE_HOME": str(home)} if home else {})}
    done = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-m", *command],
        cwd=ROOT, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def stages(corpus: Path, recipe: str, work: Path, *init: str) -> Figures:
    return on_one_core(STAGES, recipe, str(corpus), *init, home=work / "home")[0]


def loops(corpus: Path, _: Path) -> Figures:
    return on_one_core("benchmarks.corpus.tutorial_loops", str(corpus))[0]


def of_size(corpus: Path, size: int, recipe: str, work: Path) -> Figures:
    """A folder that holds the corpus `size` times: the first run, the same again, and a file more.

    The last one has an initial model with the vocabulary of the first run, as a scheduled run has.
    """
    folder = work / "corpus"
    enlarged.write_folder(corpus, folder, copies=size)
    figures = {"raw_bytes": enlarged.raw_bytes(folder), "full": stages(folder, recipe, work)}
    figures["unchanged"] = stages(folder, recipe, work)
    init = initial_model(Path(figures["full"]["stages"]["vocabulary"]["path"]), work / "initial")
    enlarged.add_file(corpus, folder, copies=size)
    figures["added"] = stages(folder, recipe, work, str(init))
    if size == 1:  # at larger sizes, this would take half of the time of the benchmark
        shutil.rmtree(work / "home")
        figures["anew"] = stages(folder, recipe, work, str(init))
        check_equal(figures["added"]["stages"], figures["anew"]["stages"])
    return figures


def initial_model(vocabulary: Path, folder: Path) -> Path:
    """A model folder whose weights are empty, for runs that do not train."""
    shutil.copytree(vocabulary, folder, ignore=shutil.ignore_patterns("logs", "manifest.json"))
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def check_equal(stages: Figures, others: Figures) -> None:
    """Check that the stages have written the same bytes in two homes."""
    for name, stage in stages.items():
        if stage["digest"] != others[name]["digest"]:
            sys.exit(f"the output of {name} depends on the order in which data arrived: see {stage['path']}")


def inspect(corpus: Path, work: Path) -> Figures:
    """`repartee corpus inspect` of one file with INSPECTED_BYTES."""
    folder, path = work / "corpus", work / "inspected.jsonl"
    enlarged.write_folder(corpus, folder, copies=3)
    with path.open("wb") as file:
        for part in sorted(folder.iterdir()):
            file.write(part.read_bytes()[: INSPECTED_BYTES - file.tell()])
    began_s = time.monotonic()
    command = [sys.executable, "-m", "cli", "corpus", "inspect", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        select.select([process.stdout], [], [])
        first_s = time.monotonic() - began_s
        process.stdout.read()
    return {"first_s": first_s, "inspected_s": time.monotonic() - began_s, "status": process.returncode}


def measure(corpus: Path, out: Path, *, sizes: list[int], repeats: int, recipe: str) -> Records:
    records = Records(out, {"corpus": corpus.name, "raw_bytes": enlarged.raw_bytes(corpus)})
    for i in range(repeats):  # in turn, because the speed of a machine varies
        records.ensure(f"loops-{i}", partial(loops, corpus))
        for each in ("tutorial", recipe):
            records.ensure(f"zip-{each}-{i}", partial(stages, corpus, each))
    records.ensure("inspect", partial(inspect, corpus))
    for size in sizes:
        name = f"size-{size}-{recipe}"
        records.ensure(name, partial(of_size, corpus, size, recipe))
    return records


def _values(runs: dict[str, Figures], *keys: str) -> list[float]:
    found: list[Any] = list(runs.values())
    for key in keys:
        found = [each[key] for each in found]
    return found


def rows(records: Records, recipe: str) -> list[Row]:
    settings, tutorial = records.all("settings")["settings"], records.all("zip-tutorial-*")
    tutorial_s, loops_s = _values(tutorial, "cpu_s"), _values(records.all("loops-*"), "cpu_s")
    ratios = [ours / theirs for ours, theirs in zip(tutorial_s, loops_s, strict=True)]
    found = [
        Row("raw zip to examples, `tutorial`, CPU s: the stages", tutorial_s),
        Row("raw zip to examples, CPU s: the tutorial's own loops", loops_s),
        at_most("the stages / the tutorial's own loops", ratios, 1.0),
    ]
    for stage in ("parse", "clean", "vocabulary", "export"):
        found.append(Row(f"`tutorial`, {stage}, CPU s", _values(tutorial, "stages", stage, "cpu_s")))
    others = records.all(f"zip-{recipe}-*")
    parse_s, clean_s = (_values(others, "stages", stage, "cpu_s") for stage in ("parse", "clean"))
    speeds = [settings["raw_bytes"] / 1e6 / (a + b) for a, b in zip(parse_s, clean_s, strict=True)]
    found.append(at_least(f"parse and clean, `{recipe}`, MB/s of raw text", speeds, 40.0))
    inspected = records.all("inspect")
    found.append(
        at_most("`corpus inspect` of 100 MB, s until the first answer", _values(inspected, "first_s"), 1.0)
    )
    found.append(at_most("`corpus inspect` of 100 MB, s in all", _values(inspected, "inspected_s"), 10.0))
    for name, figures in records.all(f"size-*-{recipe}").items():
        found += _rows_of_size(SIZE.format(size=name.split("-")[1], recipe=recipe), figures)
    return found


def _rows_of_size(name: str, figures: Figures) -> list[Row]:
    full, unchanged, added = (figures[key] for key in ("full", "unchanged", "added"))
    share = added["cpu_s"] / full["cpu_s"]
    speed = figures["raw_bytes"] / 1e6 / sum(full["stages"][each]["cpu_s"] for each in ("parse", "clean"))
    found = [
        Row(f"{name}: CPU s", [full["cpu_s"]]),
        at_least(f"{name}: parse and clean, MB/s of the files", [speed], 40.0),
        at_most(f"{name}: peak of the memory, MB", [full["peak_mb"]], 1500, ",.0f"),
        at_most(f"{name}: nothing changed, s", [unchanged["wall_s"]], 2.0),
        at_most(f"{name}: one file more, CPU s / the first run", [share], 0.05, ".1%"),
    ]
    for stage, took in full["stages"].items():
        found.append(Row(f"{name}: {stage}, CPU s", [took["cpu_s"]]))
        found.append(Row(f"{name}: {stage}, one file more, CPU s", [added["stages"][stage]["cpu_s"]]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus.data")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--recipe", default="small")
    options = parser.parse_args()
    sizes, repeats, recipe = options.sizes, options.repeats, options.recipe
    records = measure(options.corpus.resolve(), options.out, sizes=sizes, repeats=repeats, recipe=recipe)
    print(table(rows(records, recipe), records))


if __name__ == "__main__":
    main()
