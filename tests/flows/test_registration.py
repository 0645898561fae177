"""Registration with obstacles: MLflow does not answer, a user intervened, or champion files are damaged."""

import json
import os
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "download.sample_turns=3000",
    "vocabulary.size=600",
    "network.n_layer=1",
    "network.width=16",
    "train.max_steps=6",
    "train.max_minutes=null",
    "evaluate.sample_replies=10",
)
pytestmark = pytest.mark.flow


def repartee(home, *words, **env):
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--json"],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


@pytest.fixture(scope="module")
def chain(prefect):
    """A function that gives the command `run` or `plan` in a home."""

    def give(home, verb, *changes, **env):
        sets = [word for change in (*TINY, *changes) for word in ("--set", change)]
        return repartee(home, verb, "--recipe", "quick", *sets, **prefect, **env)

    return give


def statuses(outcome):
    return {stage["name"]: stage["status"] for stage in outcome["stages"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_home):
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def first(home, chain):
    """The outcome of a run without MLflow, and the outcome of the same command with MLflow."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return chain(home, "run", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}"), chain(home, "run")


@pytest.fixture(scope="module")
def rolled_back(first, home, chain):
    assert chain(home, "run", "train.seed=2", "gate.promote=always")["version"] == 2
    repartee(home, "rollback")


def test_a_run_whose_mlflow_is_dead_trains_and_the_same_command_registers_it(first):
    kept, registered = first
    assert kept["outcome"] == "trained_not_registered"
    assert kept["version"] is None and kept["metrics"]["test_bpb"] and Path(kept["model_path"]).is_dir()
    assert "does not answer" in kept["reason"]
    assert (
        "this command registers it: repartee run --recipe quick --set download.sample_turns=3000"
        in kept["reason"]
    )
    assert kept["said"].count("does not answer") <= 2, "the log mentions the outage again and again"
    assert (registered["outcome"], registered["version"]) == ("promoted", 1)
    assert set(statuses(registered).values()) == {"reused"}


def test_what_a_person_rolled_back_is_not_promoted_again_by_the_same_run(rolled_back, home, chain):
    for changes in (("train.seed=2",), ("train.seed=2", "gate.promote=always")):
        again = chain(home, "run", *changes)
        assert (again["outcome"], again["version"]) == ("unchanged", 1)
        assert "v2, which this training run produced, was taken out of service manually" in again["reason"]
        assert "`repartee promote 2` puts it back" in again["reason"]


def test_a_champion_that_may_know_the_test_split_is_not_compared_and_the_verdict_says_so(
    rolled_back, home, chain
):
    refused = chain(home, "run", "clean.test_share=0.2")
    assert (refused["outcome"], refused["version"]) == ("refused", 1)
    assert "the champion may have trained on today's test split" in refused["reason"]
    assert chain(home, "run", "clean.test_share=0.2")["outcome"] == "unchanged", "the question is settled"


def test_a_champion_with_a_flipped_byte_is_no_bar_and_the_plan_says_so(rolled_back, home, chain):
    history = repartee(home, "history")["history"]
    assert history[0]["version"] == 1 and history[0]["flow_run_id"] is None and history[1]["flow_run_id"]
    models = repartee(home, "models")["models"]
    digest = next(model for model in models if model["version"] == 1)["tags"]["repartee.digest"]
    stored = (home / "mlartifacts").glob("**/models/*/artifacts/manifest.json")
    manifest = next(path for path in stored if sha256(path.read_bytes()).hexdigest() == digest)
    champion = manifest.with_name("model.safetensors")
    content = bytearray(champion.read_bytes())
    content[-1] ^= 1
    champion.write_bytes(content)
    planned = {step["name"]: step for step in chain(home, "plan", "train.seed=3")["stages"]}
    assert "champion v1 cannot be read, so the model is not compared with it" in planned["gate"]["why"]
    made = chain(home, "run", "train.seed=3")
    assert (made["outcome"], made["version"]) == ("promoted", 3)
    assert "champion v1 cannot be read, so the model is not compared with it" in made["reason"]
    assert repartee(home, "chat", "--once", "Hello.")["version"] == 3
