"""Measures the speed of the training loop; prints a Markdown table of the results and their goals.

python -m benchmarks.training CORPUS --out FOLDER [--minutes 1] [--repeats 3]
    needs the extra `benchmarks`; finished runs are recorded in FOLDER and not repeated

Useful tokens are all tokens except padding. `trainer` and `grouped` are both transformers.Trainer on the same
network and examples, with the same number of tokens per step. `trainer` uses Trainer's default collator, and
`grouped` its length-grouped sampler. All runs use the precision that is faster on this machine. The share of
the peak is also measured for float32, because with AMX the peak of bfloat16 is several times that of float32,
while memory is no faster. Each run is a separate process and takes MINUTES. Each round has one run of each
kind, in an order that alternates from round to round, so that no kind benefits if the machine slows down. A
ratio compares two runs of the same round. In a `busy` run, another process occupies the second core.
`trainer` is then slowed down by its two OpenMP threads, which spin while they wait, as they do by default.
Some results come from benchmarks/cores.py, saves.py and peak.py, each of which describes its method.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks.contest import (
    Figures,
    Prepared,
    Records,
    Row,
    at_least,
    at_most,
    metrics_of,
    prepare,
    probe,
    start,
    table,
    two_cores,
    write_run,
)
from benchmarks.trainer_summary import TrainerSummary
from models.metrics_log import STEP, of_kind
from models.training.launch import SUMMARY

# The runs of a round. The runs that are compared with each other are close together in this order.
NAMES = ("grouped", "trainer", "ours", "ours-busy", "trainer-busy")
# `small` made three times as wide (8.7 million parameters), which needs larger batches than `small` does.
NINE_MILLION = ("network.width=384", "train.batch_tokens=8192")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    records = measure(arguments.corpus, arguments.out, minutes=arguments.minutes, repeats=arguments.repeats)
    print(table(rows(records), records))


def measure(corpus: str, out: Path, *, minutes: float, repeats: int) -> Records:
    records = Records(out / "training", {"corpus": corpus, "minutes": minutes})
    changes = [f"train.max_minutes={minutes}", "train.log_every=5"]
    small, larger = prepare("small", corpus, changes), prepare("small", corpus, [*changes, *NINE_MILLION])
    precision = records.ensure("precision", partial(probe, corpus))["precision"]
    for turn in range(repeats):
        for name in NAMES[:: -1 if turn % 2 else 1]:
            records.ensure(f"{name}-{turn}", partial(race, name, small, minutes, turn, precision))
        for name in ("cores", "saves"):
            records.ensure(f"{name}-{turn}", partial(measure_inside, name, small, turn, precision))
        for dtype in peaks(precision):
            records.ensure(f"peak-{dtype}-{turn}", partial(measure_inside, "peak", larger, turn, dtype))
    return records


def peaks(precision: str) -> list[str]:
    """The precisions in which the share of the peak is measured: the one that all runs use, and float32."""
    return list(dict.fromkeys((precision, "fp32")))


def race(name: str, data: Prepared, minutes: float, seed: int, precision: str, work: Path) -> Figures:
    """The useful tokens per second of one run, measured after its first tenth."""
    write_run(work, data, seed=seed, precision=precision)
    _, second = two_cores()
    kind, _, where = name.partition("-")
    with spinning(second) if where == "busy" else nullcontext():
        if kind != "ours":
            start("benchmarks.hf_trainer", str(work), kind, str(minutes), f"--precision={precision}")
            return {"tokens_per_second": TrainerSummary.read(work / SUMMARY).tokens_per_second}
        start("models.training.trainer", str(work))
    rates = [line["tokens_per_second"] for line in of_kind(metrics_of(work), STEP)]
    # Each line gives the speed of five steps with about the same number of tokens, so the mean is harmonic.
    return {"tokens_per_second": statistics.harmonic_mean(rates[len(rates) // 10 :])}


@contextmanager
def spinning(core: str) -> Iterator[None]:
    """Inside this context, another process occupies that core."""
    process = subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure_inside(name: str, data: Prepared, seed: int, precision: str, work: Path) -> Figures:
    """The results of benchmarks/cores.py, saves.py or peak.py, which runs as a separate process."""
    start(f"benchmarks.{name}", str(write_run(work, data, seed=seed, precision=precision)))
    figures: Figures = json.loads((work / "figures.json").read_text())
    return figures


def rows(records: Records) -> list[Row]:
    """The rows of the table, from all recorded runs."""

    def values(name: str, key: str = "tokens_per_second") -> list[float]:
        return [figures[key] for figures in records.all(f"{name}-[0-9]*").values()]

    def over(name: str, other: str) -> list[float]:
        return [ours / theirs for ours, theirs in zip(values(name), values(other), strict=False)]

    precision = records.all("precision")["precision"]["precision"]
    spent = "step time with a busy second core / step time with two free cores"
    speed = "useful tokens/s, two cores"
    lines = [
        Row(f"{speed}: ours", values("ours"), form=",.0f"),
        Row(f"{speed}: Trainer, default collator", values("trainer"), form=",.0f"),
        Row(f"{speed}: Trainer, length-grouped", values("grouped"), form=",.0f"),
        at_least("ours / Trainer's with the default collator", over("ours", "trainer"), 4),
        at_least("ours / Trainer's, length-grouped", over("ours", "grouped"), 1.4),
        at_least("speed on two cores / speed on one core", values("cores", "ratio"), 1.6),
        at_most(f"{spent}: ours", over("ours", "ours-busy"), 2.2),
        Row(f"{spent}: Trainer, whose two OpenMP threads spin", over("trainer", "trainer-busy")),
        at_most("step time added by one checkpoint per minute", values("saves", "share"), 0.035, ".2%"),
    ]
    share = "share of the {} peak of matrix products, 8.7 M parameters, batches of 8,192 tokens"
    for dtype in peaks(precision):
        row = Row(share.format(dtype), values(f"peak-{dtype}", "share"), form=".1%")
        lines.append(at_least(row.figure, row.values, 0.45, row.form) if dtype == precision else row)
        lines.append(Row("matrix-product peak, GFLOP/s", values(f"peak-{dtype}", "peak_gflops"), form=",.0f"))
    return [line for line in lines if line.values]


if __name__ == "__main__":
    main()
