"""Which stored outputs can be removed: those that are old and that nothing needs."""

import os
import time

import pytest

from tasks.store.artifact import find, new_manifest, write_manifest
from tasks.store.unused import remove, unused_outputs

DAY_S = 86_400


@pytest.fixture
def home(tmp_path):
    """Two models of the same parsed data, the first from data that were cleaned in another way."""
    digests = {}
    for stage, name, inputs in [
        ("parse", "p", []),
        ("clean", "c1", ["p"]),
        ("clean", "c2", ["p"]),
        ("train", "t1", ["c1"]),
        ("train", "t2", ["c2"]),
        ("evaluate", "e1", ["t1"]),
    ]:
        folder = tmp_path / "store" / stage / name
        folder.mkdir(parents=True)
        (folder / "rows").write_text(name)
        ingredients = {"inputs": {each: digests[each] for each in inputs}}
        manifest = new_manifest(folder, ingredients, rows=1, seconds=0.0)
        write_manifest(folder, manifest)
        digests[name] = manifest["digest"]
        age(folder, days=40)
    return tmp_path


def age(folder, *, days):
    moment_s = time.time() - days * DAY_S
    os.utime(folder, (moment_s, moment_s))


def unused(home, *, days=30, needed=()):
    return sorted(each.path.name for each in unused_outputs(home, days, needed))


def test_outputs_that_nothing_has_used_are_found_and_newer_ones_are_not(home):
    assert unused(home) == ["c1", "c2", "e1", "p", "t1", "t2"]
    assert unused(home, days=50) == []


def test_a_model_in_service_keeps_everything_that_it_was_made_from(home):
    assert unused(home, needed={"t2"}) == ["c1", "e1", "t1"]


def test_an_output_that_was_used_lately_keeps_what_it_was_made_from(home):
    age(home / "store" / "train" / "t1", days=3)
    assert unused(home) == ["c2", "e1", "t2"]


def test_finding_an_output_counts_as_its_use(home):
    assert find(home, "evaluate", "e1")
    assert unused(home) == ["c2", "t2"]


def test_an_output_whose_manifest_is_damaged_is_left_alone(home):
    (home / "store" / "train" / "t1" / "manifest.json").write_text("{")
    assert "t1" not in unused(home)


def test_what_is_removed_is_gone_and_a_second_removal_changes_nothing(home):
    (output,) = [each for each in unused_outputs(home, 30, ()) if each.path.name == "c1"]
    remove(output)
    remove(output)
    assert [path.name for path in (home / "store" / "clean").iterdir()] == ["c2"]
