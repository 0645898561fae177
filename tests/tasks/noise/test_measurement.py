"""The measurement of the noise between seeds, with trainings that write only a summary."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from shouting import Knobs, shout

from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run
from models.errors import InputError
from models.evaluation.noise import FILE, Machine
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.registry.version import Version
from models.training.launch import PRECISION
from settings import Settings
from tasks.gate import compare, ledger_of, noise_key, noise_of
from tasks.noise.measurement import SEEDS, measure_noise, short
from tasks.store.stage import Stage

SUMMARY = {"steps": 2, "precision": "fp32", "device": "cpu", "processor": "P", "threads": 1, "workers": 2}


class Trainer:
    """The build function of a stage `train`, which may fail."""

    def __init__(self, fails_at=0, **summary):
        self.seeds, self.precisions, self.fails_at, self.summary = [], [], fails_at, summary

    def stage(self):
        def build(out, config, clean, *, work, watch):
            if len(self.seeds) + 1 == self.fails_at:
                raise KeyboardInterrupt
            self.seeds.append(config.train.seed)
            self.precisions.append((work / PRECISION).read_text() if (work / PRECISION).exists() else "")
            for folder in ("model", "logs"):
                (out / folder).mkdir()
            (out / "model" / "config.json").write_text(json.dumps(config.train.seed))
            of_seed = {**SUMMARY, **(self.summary if config.train.seed == 3 else {})}
            (out / "logs" / "summary.json").write_text(json.dumps(of_seed))
            (out / "logs" / PRECISION).write_text("the choice of the first run")
            return 2

        return Stage("train", build, reads=("clean",), resumable=True)


def rescore(out, config, champion, clean):
    """Each seed has another score."""
    seed = json.loads((champion / "config.json").read_text())
    ScoreRecord(bpb=1.5 + seed / 1000, normalisation="plain", test_set="t").write(out / SCORE)
    return 1


RESCORE = Stage("rescore", rescore, reads=("champion", "clean"))


@pytest.fixture
def run(tmp_path):
    return replace(describe_run(RetrainConfig(), Settings()), home=tmp_path)


@pytest.fixture
def data(run):
    return {"clean": Stage("clean", shout).run(run.home, Knobs(), {})}


def test_eight_seeds_are_trained_with_a_tenth_of_each_limit_and_their_spread_is_stored(run, data):
    trainer = Trainer()
    noise = measure_noise(run, data, train=trainer.stage(), rescore=RESCORE)
    assert trainer.seeds == list(range(1, SEEDS + 1))
    assert trainer.precisions == ["", *["the choice of the first run"] * 7]
    assert noise.bpb == [1.5 + seed / 1000 for seed in trainer.seeds]
    assert noise.machine == Machine("cpu", "P", "fp32", 1, 2)
    assert (noise.recipe, noise.corpus, noise.share) == ("small", "cornell", 0.1)
    assert not list((run.home / "noise").iterdir())
    assert not (run.home / "store" / "train").exists()


def test_an_interrupted_measurement_trains_no_seed_twice(run, data):
    with pytest.raises(KeyboardInterrupt):
        measure_noise(run, data, train=Trainer(fails_at=4).stage(), rescore=RESCORE)
    assert not (run.home / "decisions" / FILE).exists()
    trainer = Trainer()
    assert len(measure_noise(run, data, train=trainer.stage(), rescore=RESCORE).bpb) == SEEDS
    assert trainer.seeds == [4, 5, 6, 7, 8]


def test_trainings_on_two_kinds_of_machines_are_no_measurement(run, data):
    with pytest.raises(InputError, match=r"different kinds of machines \(P, fp32, .*; Q, fp32.*; remove "):
        measure_noise(run, data, train=Trainer(processor="Q").stage(), rescore=RESCORE)
    assert not (run.home / "decisions" / FILE).exists()


def test_the_gate_finds_it_for_a_model_of_the_same_recipe_on_the_same_kind_of_machine(run, data):
    noise = measure_noise(run, data, train=Trainer().stage(), rescore=RESCORE)
    here = Trainer().stage().run(run.home, run.settings["train"], data, context={"watch": print})
    elsewhere = Trainer(processor="Q").stage()
    config = run.settings["train"].model_copy(
        update={"train": run.settings["train"].train.model_copy(update={"seed": 3})}
    )
    other = elsewhere.run(run.home, config, data, context={"watch": print})
    assert noise_of(run, here) == noise
    assert noise_of(run, other) is None


def test_a_decision_says_that_its_margin_was_measured_and_the_ledger_has_it(run, data):
    trained = Trainer().stage().run(run.home, run.settings["train"], data, context={"watch": print})
    champion = Version(1, (), {}, {}, "", datetime.now(UTC), "", "models:/m-1")
    new, old = (
        ScoreRecord(
            bpb=bpb,
            normalisation="plain",
            test_set="t",
            groups={f"g{i}": [(bpb + i / 10_000) * math.log(2) * 1000, 1000.0] for i in range(10)},
        )
        for bpb in (1.5, 1.515)
    )
    by_default = compare(run, champion, trained, data["clean"], new, old)
    assert not by_default.promote and "the default margin" in by_default.reason
    noise = measure_noise(run, data, train=Trainer().stage(), rescore=RESCORE)
    measured = compare(run, champion, trained, data["clean"], new, old)
    assert measured.promote and "`repartee noise` measured" in measured.reason
    last = ledger_of(run).decisions()[-1]
    assert last.min_gain == noise.margin and last.margin_from in measured.reason
    assert last.number == 1, "the same comparison spends no second decision"


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"seed": 7, "log_every": 5, "checkpoint_seconds": 9}, True),
        ({"learning_rate": 0.5}, False),
        ({"max_minutes": 3}, False),
    ],
)
def test_the_seed_and_what_is_logged_make_no_other_recipe(run, changes, is_same):
    training = run.settings["train"]
    changed = training.model_copy(update={"train": training.train.model_copy(update=changes)})
    other = replace(run, settings={**run.settings, "train": changed})
    assert (noise_key(run) == noise_key(other)) is is_same


def test_a_short_training_has_a_tenth_of_each_limit_that_is_set():
    training = RetrainConfig().by_stage()["train"]
    limits = {"max_minutes": None, "max_steps": 15, "max_epochs": 20, "seed": 4}
    given = training.model_copy(update={"train": training.train.model_copy(update=limits)})
    shortened = short(given, 2).train
    assert (shortened.max_minutes, shortened.max_steps, shortened.max_epochs) == (None, 2, 2.0)
    assert shortened.seed == 6
