"""The trainer against transformers.Trainer: useful tokens a second, and bits per byte after as many minutes.

python -m benchmarks.training CORPUS [--minutes 2] [--repeats 3] [NAME ...]
    needs the extra `benchmarks`; NAME: ours, trainer, grouped, gpt2 (all of them without one)

All read the same examples with the same vocabulary and precision, one after the other in turn, each
in a process of its own with both cores. `trainer` pads each batch to its longest row, as the default
collator does; `grouped` has its length-grouped sampler; `gpt2` is `trainer` with a GPT-2 config of
the same size. Useful tokens are those that are no padding. A run of ours and one of theirs see as
many tokens a step. The bits per byte are of the test split, which none has seen.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from environment import quiet_environment

quiet_environment()

from deployments.here import make  # noqa: E402
from flows.chain import prepare_chain  # noqa: E402
from flows.lineage import open_lineage  # noqa: E402
from flows.recipes import configure  # noqa: E402
from tasks.evaluate import score_model  # noqa: E402

NAMES = ("ours", "trainer", "grouped", "gpt2")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("corpus")
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    often = "train.log_every=5"
    config = configure("small", asked.corpus, [f"train.max_minutes={asked.minutes}", often, *asked.set])
    made = make(prepare_chain(config), open_lineage(config).home)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in asked.names}
    for seed in range(asked.repeats):
        # There and back again, so that a machine that slows down favours nobody.
        for name in asked.names[:: -1 if seed % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                training = config.train.model_copy(update={"seed": seed})
                work = write_run(Path(folder), config.network, training, made)
                results[name].append(measure(name, work, asked.minutes, made["clean"].path / "turns.parquet"))
            print(f"{name} {json.dumps(results[name][-1])}", file=sys.stderr)
    for name, rows in results.items():
        told = [f"{figure} {spread([row[figure] for row in rows])}" for figure in rows[0]]
        print(f"{name:<8} {';  '.join(told)}")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.4g} ({min(values):,.4g} to {max(values):,.4g})"


def write_run(work: Path, network: Any, training: Any, made: dict[str, Any]) -> Path:
    dialogue = json.loads((made["export"].path / "dialogue.json").read_text())
    run = {
        "network": network.model_dump(),
        "train": training.model_dump(),
        **dialogue,
        "tokenizer": str(made["vocabulary"].path),
        "examples": str(made["export"].path),
    }
    (work / "config.json").write_text(json.dumps(run))
    (work / "precision.json").write_text(json.dumps({"precision": "bf16"}))
    return work


def measure(name: str, work: Path, minutes: float, turns: Path) -> dict[str, float]:
    """Train by that name in the run folder; the rate is of what came after its first tenth."""
    ours = [sys.executable, "-m", "models.trainer", str(work)]
    theirs = [sys.executable, "-m", "benchmarks.hf_trainer", str(work), name, str(minutes)]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ} if name == "ours" else dict(os.environ)
    began_s = time.monotonic()
    command = ours if name == "ours" else theirs
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    whole_s = time.monotonic() - began_s
    if name == "ours":
        lines = map(json.loads, (work / "metrics.jsonl").read_text().splitlines())
        rates = [line["tokens_per_second"] for line in lines if line["kind"] == "step"]
        rate = statistics.median(rates[len(rates) // 10 :])
    else:
        rate = json.loads((work / "summary.json").read_text())["tokens_per_second"]
    return {"tokens/s": rate, "bpb": score_model(work / "model", turns).bpb, "s": whole_s}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
