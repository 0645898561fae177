"""The names of runs are unique in a home and show what differs from the recipe."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.lifecycle.names import (
    MAX_CHANGES_CHARACTERS,
    base_name,
    changes_text,
    is_generated,
    next_number,
    schedule_of,
)
from flows.recipes import configure

ROOT = Path(__file__).resolve().parents[3]


def test_a_name_has_the_recipe_and_the_name_of_the_corpus():
    assert base_name(configure("small", None, [])) == "small-cornell"
    assert base_name(configure("quick", "/data/my chats.zip", [])) == "quick-my chats"
    assert base_name(configure("small", ["cornell", "/data/mine.jsonl=0.5"], [])) == "small-cornell+mine"


def test_what_differs_from_the_recipe_is_in_the_name_and_the_corpus_is_not_repeated():
    assert changes_text(configure("small", "sample", [])) == ""
    config = configure("small", "sample", ["train.seed=1", "train.max_minutes=null"])
    assert set(changes_text(config).split()) == {"seed=1", "max_minutes=null"}


def test_many_changes_are_shortened_and_the_rest_is_counted():
    settings = ["train.seed=1", "train.max_minutes=77", "train.max_epochs=99", "train.batch_tokens=1111"]
    settings += ["train.learning_rate=0.123", "train.max_steps=10", "clean.max_turn_tokens=9"][:2]
    text = changes_text(configure("small", None, settings))
    *words, rest = text.split()
    assert len(text) <= MAX_CHANGES_CHARACTERS + 4
    assert rest == f"+{6 - len(words)}"


def test_runs_that_begin_at_once_get_different_numbers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: next_number(tmp_path / "home"), range(40)))
    assert sorted(numbers) == list(range(1, 41))


def test_a_damaged_counter_starts_again_and_a_home_that_cannot_be_written_gives_no_number(tmp_path):
    (tmp_path / "run_number").write_text("seven")
    assert next_number(tmp_path) == 1
    (tmp_path / "file").write_text("")
    assert next_number(tmp_path / "file") is None


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("nu21-selye", True),
        ("alpha-canis-majoris-vega", True),
        ("brave-otter", True),
        ("night run", False),
        ("support-bot", False),
        ("alphabet-test", False),
        ("", False),
    ],
)
def test_the_names_that_prefect_generates_are_told_from_those_of_a_user(name, generated):
    assert is_generated(name) is generated


@pytest.mark.parametrize(
    ("creator", "tags", "name"),
    [
        ({"type": "SCHEDULE", "display_value": "nightly"}, ["auto-scheduled"], "nightly"),
        ({"type": "SCHEDULE", "display_value": "CronSchedule"}, [], ""),  # a schedule without a name
        ({"type": "DEPLOYMENT", "display_value": "retrain"}, ["schedule:nightly"], "nightly"),
        ({"type": "DEPLOYMENT", "display_value": "retrain"}, [], ""),
        (None, [], ""),
    ],
)
def test_the_schedule_that_started_a_run_is_known_by_its_creator_or_by_a_tag(creator, tags, name):
    run = FlowRun(flow_id=uuid4(), created_by=creator, tags=tags)
    assert schedule_of(SimpleNamespace(flow_run=run)) == name


def test_a_run_outside_of_prefect_has_no_schedule():
    assert schedule_of(None) == ""


ALIVE_BEFORE_RUNNING = """
from environment import quiet_environment
quiet_environment()
from prefect import flow
from prefect.context import FlowRunContext
from flows.lifecycle.locks import dead_runs
from flows.lifecycle.names import begin_run
from models.locks import is_held
from settings import Settings

def name():
    found = begin_run()
    [file] = (Settings().root / "locks").glob("flow-*.lock")
    print(is_held(file), file.stem == f"flow-{FlowRunContext.get().flow_run.id}", FlowRunContext.get().flow_run.state.name)
    return found

@flow(flow_run_name=name)
def retrain(recipe: str = "quick"):
    pass

retrain()
print(dead_runs(Settings().root))
"""


@pytest.mark.flow
def test_a_run_is_marked_as_alive_before_prefect_records_that_it_is_running(prefect, tmp_path):
    """Otherwise a run that is killed in between would be shown as running for ever."""
    env = {**os.environ, "REPARTEE_HOME": str(tmp_path), **prefect}
    done = subprocess.run(
        [sys.executable, "-c", ALIVE_BEFORE_RUNNING], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[0] == "True True Pending", done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "a run whose process is alive counts as dead"
