"""`repartee prune` frees space without taking anything that a model in service or a recent run needs."""

import os
import time

import pytest
from installation import TINY, ask, settings
from registries import model_folder, register

from deployments.prune import prune
from flows.lifecycle.locks import my_turn
from models.errors import InputError
from models.registry.reference import open_registry
from models.registry.tags import FINGERPRINT
from settings import Settings
from tasks.store.artifact import stored_outputs


@pytest.fixture
def home(tmp_path, monkeypatch, new_home):
    """A home with the outputs of one run, none of which has been used for 40 days."""
    home = new_home(tmp_path / "home", trained=True)
    monkeypatch.setenv("REPARTEE_HOME", str(home))
    moment_s = time.time() - 40 * 86_400
    for folder in home.glob("store/*/*"):
        os.utime(folder, (moment_s, moment_s))
    return home


def kinds(found):
    return [each.what for each in found]


def test_it_lists_first_and_deletes_only_when_asked(home):
    files = sorted(home.rglob("*"))
    listed = prune(30, deletes=False)
    assert sorted(home.rglob("*")) == files
    assert "outputs of train" in kinds(listed) and all(each.size_bytes > 0 for each in listed)
    assert prune(30, deletes=True) == listed
    assert not list(home.glob("store/*/[!.]*"))
    assert prune(30, deletes=False) == []


def test_the_champion_keeps_its_training_and_data(home, tmp_path):
    registry = open_registry(Settings())
    (trained,) = stored_outputs(home, "train")
    version = register(registry, model_folder(tmp_path / "model", b"weights"), trained.fingerprint)
    assert version.tags[FINGERPRINT] == trained.fingerprint
    registry.promote(version, "the first")
    assert kinds(prune(30, deletes=True)) == ["outputs of evaluate", "shards of stages"]
    assert trained.path.exists() and list(home.glob("store/export/[!.]*"))


def test_interrupted_work_is_deleted_with_the_age_of_its_newest_file(home):
    old, new = home / "runs" / "old", home / "runs" / "new"
    for run in (old, new):
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text("{}")
    for path in (old / "metrics.jsonl", old):
        os.utime(path, (0, 0))
    assert "interrupted training runs" in kinds(prune(30, deletes=True))
    assert not old.exists() and new.exists()


def test_nothing_is_deleted_while_a_run_trains(home):
    with (
        my_turn(home, "small-cornell"),
        pytest.raises(InputError, match=r"nothing was deleted: .*small-cornell"),
    ):
        prune(30, deletes=True)
    assert list(home.glob("store/train/[!.]*"))


@pytest.mark.flow
def test_after_it_the_plan_of_a_recent_command_is_the_same(home):
    words = ["--recipe", "quick", *settings(TINY["changes"])]
    before = ask(home, "plan", *words)
    listed = ask(home, "prune", "--yes")
    assert "shards of stages" in listed, "only new data would need them"
    assert "outputs of" not in listed
    assert "nothing to delete: everything is needed or has been used" in ask(home, "prune", "--yes")
    assert ask(home, "plan", *words) == before
