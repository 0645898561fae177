"""`repartee data` shows the right prepared data, or an error message if nothing has been prepared."""

import json

import pytest
from prepared_data import write_outputs

from cli.data import describe_data, to_json
from cli.terminal import tables
from models.errors import InputError
from tasks.store.artifact import new_manifest, write_manifest

CONVERSATIONS = [
    ("a", "train", ["Hello.", "Hi."]),
    ("b", "validation", ["Who?", "Me."]),
    ("c", "test", ["Why?", "So."]),
]


def prepare(home, fingerprint, created_at, conversations=CONVERSATIONS):
    """The outputs of parse, clean and export in the store of a home, under one fingerprint."""
    scratch = home / fingerprint
    scratch.mkdir(parents=True)
    inputs = {}
    for output in write_outputs(scratch, conversations):
        final = home / "store" / output.name / fingerprint
        final.parent.mkdir(parents=True, exist_ok=True)
        output.rename(final)
        manifest = new_manifest(final, {"inputs": inputs}, 1, 0.0) | {"made_at": created_at}
        write_manifest(final, manifest)
        inputs = {output.name: manifest["digest"]}
    scratch.rmdir()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path))
    return tmp_path


def test_the_data_that_were_prepared_last_are_shown_unless_a_fingerprint_is_given(home):
    prepare(home, "old1", "2026-01-01T00:00:00")
    prepare(home, "new1", "2026-01-02T00:00:00", [*CONVERSATIONS, ("d", "train", ["Where?", "Here."])])
    newest, data = describe_data(None)
    assert (newest.fingerprint, data.splits["train"].conversations) == ("new1", 2)
    older, data = describe_data("old")
    assert (older.fingerprint, data.splits["train"].conversations) == ("old1", 1)


def test_a_fingerprint_that_is_unknown_or_not_unique_is_refused_with_those_that_there_are(home):
    prepare(home, "abc1", "2026-01-01T00:00:00")
    prepare(home, "abc2", "2026-01-02T00:00:00", CONVERSATIONS[::-1])
    with pytest.raises(
        InputError, match="no fingerprint of prepared data begins with 'x'; choose one of abc2, abc1"
    ):
        describe_data("x")
    with pytest.raises(
        InputError, match="several fingerprints of prepared data begin with 'abc'; choose one of abc2, abc1"
    ):
        describe_data("abc")


def test_an_input_that_was_deleted_is_one_line_with_a_remedy(home):
    prepare(home, "abc1", "2026-01-01T00:00:00")
    (home / "store" / "parse" / "abc1" / "manifest.json").unlink()
    with pytest.raises(
        InputError, match=r"the output of the stage parse, .*, is missing; `repartee prepare`"
    ):
        describe_data(None)


def test_without_prepared_data_the_remedy_is_given_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("REPARTEE_HOME", str(tmp_path / "none"))
    with pytest.raises(InputError, match="contains no prepared data; `repartee prepare`"):
        describe_data(None)
    assert not (tmp_path / "none").exists()


def test_the_table_fits_60_columns_and_the_json_has_the_same_figures(home):
    prepare(home, "abc1", "2026-01-01T00:00:00")
    export, data = describe_data(None)
    table = tables.data_text(export.fingerprint, data)
    assert max(map(len, table.splitlines())) <= 60
    assert "turns" in table and "Hello." in table
    found = json.loads(json.dumps(to_json(export, data)))
    assert found["fingerprint"] == "abc1" and found["splits"]["test"]["turns"] == 2
