"""Measures the gate: how often it promotes a model that is no better, and one that is.

python -m benchmarks.judgement CORPUS --out FOLDER [--seeds 20]
    half a minute for each of the 2 * SEEDS + 1 trainings, on an idle machine with two cores

Tiny models are trained that differ only in the seed, and others for twice as many steps. The gate's own code
compares each of them with the first one. Then sequences of 52 decisions are drawn from the comparisons of
equal models, with the groups of the test split drawn again each time. The runs are stored in the home FOLDER,
so the same command continues where it was stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from models.evaluation.gain import error_of_decision, measure_gain
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.evaluation.verdict import GateConfig, judge
from models.files import PROJECT
from models.markdown import markdown_table

TINY = {"vocabulary.size": 1000, "network.n_layer": 2, "network.width": 64, "evaluate.sample_replies": 10}
STEPS = 150
WEEKS, YEARS = 52, 1000
Groups = dict[str, list[float]]


def train(corpus: str, home: Path, seed: int, steps: int) -> ScoreRecord:
    """Train a model, or find the one that an earlier call has trained, and return its score."""
    changes = {**TINY, "train.max_steps": steps, "train.max_minutes": "null", "train.seed": seed}
    words = [f"--set={key}={value}" for key, value in {**changes, "gate.promote": "never"}.items()]
    print(f"seed {seed}, {steps} steps", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "cli", "run", "--corpus", corpus, "--recipe", "small", "--json", *words],
        cwd=PROJECT,
        env={**os.environ, "REPARTEE_HOME": str(home.absolute())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    stages = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
    return ScoreRecord.read(Path(stages["evaluate"]["path"]) / SCORE)


def promoted(scores: list[ScoreRecord], champion: ScoreRecord, config: GateConfig) -> str:
    verdicts = [judge(score, champion, 1, config) for score in scores]
    return f"{sum(verdict.promote for verdict in verdicts)} of {len(verdicts)}"


def drawn_again(groups: Groups, names: list[str]) -> Groups:
    return {str(number): groups[name] for number, name in enumerate(names)}


def years_with_a_false_promotion(
    equals: list[ScoreRecord], champion: ScoreRecord, min_gain: float, *, counts_decisions: bool
) -> int:
    """Of YEARS sequences of decisions about models that are no better, those in which one is promoted.

    The mean gain of each model is subtracted, so that no model is better than the champion by more than
    `min_gain`.
    """
    rng = np.random.default_rng(0)
    names = sorted(champion.groups)
    false = 0
    for _ in range(YEARS):
        for number in range(1, WEEKS + 1):
            model = equals[rng.integers(len(equals))]
            excess = (champion.bpb - model.bpb - min_gain) * np.log(2)
            drawn = [names[i] for i in rng.integers(len(names), size=len(names))]
            new = {name: [nats + excess * size, size] for name, (nats, size) in model.groups.items()}
            error = error_of_decision(number) if counts_decisions else 0.05
            gain = measure_gain(drawn_again(new, drawn), drawn_again(champion.groups, drawn), error)
            if gain.lower > min_gain:
                false += 1
                break
    return false


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judgement")
    parser.add_argument("corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()

    def trained(steps: int, first: int) -> list[ScoreRecord]:
        seeds = range(first, first + arguments.seeds)
        return [train(arguments.corpus, arguments.out, seed, steps) for seed in seeds]

    champion = train(arguments.corpus, arguments.out, 0, STEPS)
    equals, better = trained(STEPS, 1), trained(2 * STEPS, 1)
    spread = float(np.std([score.bpb for score in (champion, *equals)], ddof=1))
    margin = round(2 * np.sqrt(2) * spread, 4)
    config = GateConfig(min_gain=margin)
    naive, counted = (
        years_with_a_false_promotion(equals, champion, margin, counts_decisions=counts)
        for counts in (False, True)
    )
    smaller = sum(score.bpb < champion.bpb for score in equals)
    years = f"years of {WEEKS} decisions with a false promotion"
    without_margin = GateConfig(min_gain=0)
    values = {
        "test groups; replies": f"{len(champion.groups)}; {champion.replies:,}",
        "standard deviation of bits per byte between seeds": f"{spread:.4f}",
        "2.83 times as much, the `gate.min_gain` of the other rows": f"{margin:.4f}",
        "the same model again: promoted": promoted([champion], champion, config),
        "another seed: fewer bits per byte than the first one": f"{smaller} of {len(equals)}",
        "another seed: promoted": promoted(equals, champion, config),
        "another seed: promoted with `gate.min_gain=0`": promoted(equals, champion, without_margin),
        "twice as many steps: promoted": promoted(better, champion, config),
        f"{years}, each decision with an error of 5 %": f"{naive} of {YEARS:,}",
        f"{years}, as the gate counts them": f"{counted} of {YEARS:,}",
    }
    print(markdown_table([{"figure": name, "value": value} for name, value in values.items()]))


if __name__ == "__main__":
    main()
