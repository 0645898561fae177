"""Outputs that are built again and compared with those recorded, on stages of a few bytes."""

import json
from dataclasses import replace

import pytest
from shouting import Knobs, shout

from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run
from models.metrics_log import ELAPSED
from settings import Settings
from tasks.provenance.origin import origin_of
from tasks.provenance.reproduction import NotReproducible, reproduce
from tasks.store.stage import External, Stage


class Training(Knobs):
    train: dict[str, float | None] = {"max_minutes": None}


def train(out, config, loud, *, watch, work, replay=None):
    """Write the text of the stage `loud` as weights, with the summary of a training run."""
    (out / "model").mkdir()
    (out / "model" / "model.safetensors").write_bytes((loud / "text.txt").read_bytes())
    (out / "logs").mkdir()
    summary = {"steps": 2, "precision": "fp32", "device": "cpu"}
    (out / "logs" / "summary.json").write_text(json.dumps(summary))
    return 2


def whisper(out, config, quiet):
    """The code that the stage `loud` had before."""
    (out / "text.txt").write_text("psst")
    return 1


QUIET = Stage("quiet", shout, external=lambda run, config, inputs: External("a file"))
LOUD, WHISPER = Stage("loud", shout, reads=("quiet",)), Stage("loud", whisper, reads=("quiet",))
TRAIN = Stage("train", train, reads=("loud",), resumable=True)
CHAIN = (QUIET, LOUD, TRAIN)


@pytest.fixture
def run(tmp_path):
    settings = {"quiet": Knobs(), "loud": Knobs(), "train": Training()}
    return replace(describe_run(RetrainConfig(), Settings()), home=tmp_path, settings=settings)


def trained(run, loud=LOUD, config=None):
    """The outputs of a training run, whose stage `loud` has this code; returns (their origin, the output)."""
    quiet = QUIET.run(run.home, Knobs(), {}, identity="a file")
    examples = loud.run(run.home, Knobs(times=3), {"quiet": quiet})
    output = TRAIN.run(run.home, config or Training(), {"loud": examples}, context={"watch": print})
    return origin_of(run.home, output.fingerprint), output


def test_equal_weights_are_found_with_the_recorded_settings_and_the_home_stays_as_it_was(run):
    origin, output = trained(run)
    before = sorted(run.home.rglob("*"))
    found = reproduce(run, origin, output.digest, CHAIN)
    assert found.is_equal and [each.status for each in found.stages] == ["from the store", "equal", "equal"]
    assert sorted(path for path in run.home.rglob("*") if path.name != "reproductions") == before


def test_a_stage_whose_output_differs_is_named_with_its_code_and_nothing_is_trained(run):
    origin, output = trained(run, loud=WHISPER)
    found = reproduce(run, origin, output.digest, CHAIN)
    assert not found.is_equal and not found.weights
    assert (found.differing.name, found.differing.changes) == ("loud", ["its code changed"])
    assert found.differing.files == ["text.txt"]
    assert [each.name for each in found.stages] == ["quiet", "loud"]


def test_a_damaged_corpus_that_can_be_got_again_is_built_again(run):
    origin, output = trained(run)
    (origin.outputs["quiet"].path / "text.txt").write_text("damaged")
    found = reproduce(run, origin, output.digest, CHAIN)
    assert found.is_equal and found.stages[0].status == "equal"
    assert (origin.outputs["quiet"].path / "text.txt").read_text() == "damaged"


def test_an_output_that_is_not_in_the_store_any_more_is_named(run):
    origin, output = trained(run)
    (origin.outputs["loud"].path / "manifest.json").unlink()
    with pytest.raises(NotReproducible, match=r"the output of the stage loud .* is not in the store"):
        reproduce(run, origin_of(run.home, output.fingerprint), output.digest, CHAIN)


def test_a_setting_that_this_release_does_not_have_is_named(run):
    origin, output = trained(run)
    manifest = origin.outputs["loud"].path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"times"', '"repeats"'))
    with pytest.raises(
        NotReproducible, match="a setting of the stage loud is not one of this release: repeats"
    ):
        reproduce(run, origin, output.digest, CHAIN)


def test_a_time_limit_without_a_record_of_the_time_cannot_be_repeated(run):
    origin, output = trained(run, config=Training(train={"max_minutes": 1.0}))
    with pytest.raises(NotReproducible, match="its training had a time limit"):
        reproduce(run, origin, output.digest, CHAIN)
    logs = output.path / "logs"
    (logs / ELAPSED).write_text("0.5\n1.0\n60.0\n")
    assert reproduce(run, origin, output.digest, CHAIN).is_equal


def test_a_night_whose_trunk_is_not_there_any_more_cannot_be_repeated(run):
    quiet = QUIET.run(run.home, Knobs(), {}, identity="a file")
    examples = LOUD.run(run.home, Knobs(times=3), {"quiet": quiet})
    context = {"watch": print}
    output = TRAIN.run(run.home, Training(), {"loud": examples}, identity="trunk: 0123", context=context)
    origin = origin_of(run.home, output.fingerprint)
    with pytest.raises(NotReproducible, match="has the trunk from which its night went on"):
        reproduce(run, origin, output.digest, CHAIN)
