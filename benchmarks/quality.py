"""Compares Repartee, transformers.Trainer and the tutorial's model: bits per byte after equal training times.

python -m benchmarks.quality CORPUS --out FOLDER [--minutes 10] [--seeds 3] [--seed N] [--only NAME]
    needs the extra `benchmarks`; finished runs are recorded in FOLDER and not repeated

`ours` is the recipe `small`. `trainer` is transformers.Trainer with AdamW on the same examples, with a GPT-2
config of the same width, depth and vocabulary, its default collator, and the precision that Repartee's
trainer chooses on this machine. Its best settings are searched for first: the attention implementation by the
useful tokens/s of short runs, then the learning rate and the rows per batch by the validation score after a
fifth of the minutes. `article` is the recipe `tutorial`, trained by Repartee's trainer with one seed. All
learning rates fall to 0 at the end of the time limit. The start-up of a training run does not count
towards the minutes, and neither does the time that transformers.Trainer spends on validation.

For each seed, all contestants run before the next seed begins, in an order that alternates from seed to seed;
each run is a separate process. The result of a run is its score on the whole test split. `article` is trained
on lower-case text with less punctuation, and has two scores: the first is on the text of the other models,
with a charge for the spelling of unknown words; the second is on its own text, which contains less
information per byte.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.contest import (
    Figures,
    Prepared,
    Records,
    Row,
    at_most,
    metrics_of,
    prepare,
    probe,
    start,
    table,
    write_run,
)
from benchmarks.curves import draw
from benchmarks.trainer_summary import TrainerSummary
from models.evaluation.scorecard import score_model
from models.metrics_log import STEP, VALIDATION, of_kind
from models.training.launch import SUMMARY, Summary

NAMES = ("ours", "trainer", "article")
RATES = (5e-4, 1e-3, 2e-3, 4e-3)
# Rows per batch. 8 is Trainer's default; about 90 rows have as many tokens as a batch of Repartee's trainer.
SMALLER = (32, 8)
BEYOND = 2  # how many learning rates beyond the edge of the grid to try
ATTENTIONS = ("sdpa", "eager")
SPEED_SHARE, RATE_SHARE = 1 / 20, 1 / 5  # of --minutes, for the short runs
VALIDATIONS = 8  # during a run, as in `small`


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", choices=NAMES)
    arguments = parser.parse_args()
    seeds = range(arguments.seeds) if arguments.seed is None else [arguments.seed]
    names = [arguments.only] if arguments.only else list(NAMES)
    records = measure(arguments.corpus, arguments.out, minutes=arguments.minutes, seeds=seeds, names=names)
    print(table(rows(records), records))


def measure(corpus: str, out: Path, *, minutes: float, seeds: Iterable[int], names: Sequence[str]) -> Records:
    records = Records(out / "quality", {"corpus": corpus, "minutes": minutes})
    changes = [f"train.max_minutes={minutes}", "train.log_every=5"]
    small = prepare("small", corpus, changes)
    tutorial = prepare("tutorial", corpus, changes) if "article" in names else small
    for seed in seeds:
        for name in names[:: -1 if seed % 2 else 1]:
            if name == "article" and seed and len(names) > 1:
                continue  # the score of `article` is far from the others, so one seed is enough
            data = tutorial if name == "article" else small
            run = partial(ours, data, minutes, seed)
            if name == "trainer":
                best = search(records, small, minutes)
                run = partial(theirs, small, minutes=minutes, seed=seed, validations=VALIDATIONS, **best)
            records.ensure(f"{name}-{seed}", partial(scored, run, small, data))
            draw(records, out / "quality.png")
    return records


def search(records: Records, data: Prepared, minutes: float) -> Figures:
    """Search for Trainer's best settings: first the attention implementation, then the learning rate and the
    rows per batch."""
    run = partial(theirs, data, seed=0)
    precision = records.ensure("precision", partial(probe, data.config.download.corpus))["precision"]
    speeds = {}
    for attention in ATTENTIONS:
        short = partial(run, minutes=SPEED_SHARE * minutes, precision=precision, attention=attention)
        speeds[attention] = records.ensure(f"speed-{attention}", short)["tokens_per_second"]
    chosen = {"precision": precision, "attention": max(speeds, key=lambda attention: speeds[attention])}

    def bpb(rate: float, **rows: int) -> float:
        short = partial(run, minutes=RATE_SHARE * minutes, validations=1, rate=rate, **chosen, **rows)
        name = "-".join(["rate", f"{rate:g}", *map(str, rows.values())])
        reached = float(records.ensure(name, short)["curve"][-1][1])
        return reached if math.isfinite(reached) else math.inf

    found = {rate: bpb(rate) for rate in RATES}
    for _ in range(BEYOND):  # if the best rate is at the edge of the grid, a better one may lie beyond it
        best = min(found, key=lambda rate: found[rate])
        if best in (min(found), max(found)):
            further = best / 2 if best == min(found) else best * 2
            found[further] = bpb(further)
    best = min(found, key=lambda rate: found[rate])
    results: dict[float, Figures] = {found[best]: {"rate": best}}
    for rows in SMALLER:
        for rate in (best, best / 2):  # smaller batches give more steps, with noisier gradients
            results[bpb(rate, rows=rows)] = {"rate": rate, "rows": rows}
    return {**chosen, **results[min(results)]}


def ours(data: Prepared, minutes: float, seed: int, work: Path) -> Figures:
    start("models.training.trainer", str(write_run(work, data, seed=seed)))
    figures = Summary.read(work / SUMMARY).model_dump()
    lines = metrics_of(work)
    step = of_kind(lines, STEP)[0]
    # The time at which training started is computed from the first metrics line of a step, because only such
    # lines contain the remaining time.
    elapsed_s = step["seconds_left"] * step["progress"] / (1 - step["progress"])
    began_ms = step["time"] - 1000 * elapsed_s
    validation_lines = of_kind(lines, VALIDATION)
    figures["curve"] = [((line["time"] - began_ms) / 60_000, line["bpb"]) for line in validation_lines]
    return figures


def theirs(data: Prepared, work: Path, *, minutes: float, seed: int, **options: str | float) -> Figures:
    """The results of a run of transformers.Trainer with these options of benchmarks/hf_trainer.py."""
    flags = [f"--{name}={value}" for name, value in options.items()]
    start("benchmarks.hf_trainer", str(write_run(work, data, seed=seed)), "gpt2", str(minutes), *flags)
    return {**TrainerSummary.read(work / SUMMARY).model_dump(), **options}


def scored(run: Callable[[Path], Figures], common: Prepared, own: Prepared, work: Path) -> Figures:
    """The results of a run, with bits per byte on the common test split and on the model's own text."""
    figures = run(work)
    bpb = score_model(work / "model", common.turns).bpb
    own_bpb = bpb if own is common else score_model(work / "model", own.turns).bpb
    return {**figures, "bpb": bpb, "own_bpb": own_bpb}


def rows(records: Records) -> list[Row]:
    """The rows of the table, from all recorded runs."""
    runs_of = {name: records.all(f"{name}-[0-9]*") for name in NAMES}
    bpb = {name: [figures["bpb"] for figures in runs.values()] for name, runs in runs_of.items()}
    ratios = [
        figures["bpb"] / runs_of["trainer"][f"trainer-{seed}"]["bpb"]
        for seed, figures in ((name.split("-")[1], figures) for name, figures in runs_of["ours"].items())
        if f"trainer-{seed}" in runs_of["trainer"]
    ]
    lines = []
    if bpb["ours"]:
        lines.append(at_most(f"ours, {size(runs_of['ours'])}", bpb["ours"], 1.68, ".3f"))
    if bpb["trainer"]:
        best = next(iter(runs_of["trainer"].values()))
        rows_text = f"{best['rows']} rows per batch, " if "rows" in best else ""
        searched = f"rate {best['rate']:g}, {rows_text}{best['precision']}, {best['attention']} attention"
        label = f"Trainer, AdamW, GPT-2 config, {size(runs_of['trainer'])}; learning {searched}"
        lines.append(Row(label, bpb["trainer"], form=".3f"))
    if bpb["article"]:
        own = [figures["own_bpb"] for figures in runs_of["article"].values()]
        lines.append(Row(f"the article's model, {size(runs_of['article'])}", bpb["article"], form=".3f"))
        lines.append(Row("the article's model on its own lower-cased text", own, form=".3f"))
    if ratios:
        lines.append(at_most("ours / Trainer's", ratios, 0.85))
    minutes = json.loads((records.folder / "settings.json").read_text())["minutes"]
    return [
        line._replace(figure=f"test bits per byte after {minutes:g} minutes: {line.figure}") for line in lines
    ]


def size(runs: dict[str, Figures]) -> str:
    return f"{next(iter(runs.values()))['parameters'] / 1e6:.2f} M parameters"


if __name__ == "__main__":
    main()
