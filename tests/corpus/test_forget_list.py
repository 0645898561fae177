"""The list of what is forgotten: whole at any moment, and never ignored."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from corpus.forget_list import LIST, Entry, append, entries, forgotten_in
from models.errors import InputError


def entry(name, action="forget", kind="conversation", **more):
    return Entry(kind=kind, id=name, action=action, at="2026-11-29T04:00:00+00:00", **more)


def ids(home):
    return [each.id for each in entries(home)]


def test_the_last_line_about_an_id_counts_and_nothing_is_ever_removed(tmp_path):
    append(tmp_path, [entry("1"), entry("2", reason="asked for"), entry("1", kind="speaker")])
    append(tmp_path, [entry("1", "restore")])
    assert [(each.kind, each.id, each.reason) for each in entries(tmp_path)] == [
        ("conversation", "2", "asked for"),
        ("speaker", "1", ""),
    ]
    append(tmp_path, [entry("1")])
    assert ids(tmp_path) == ["2", "1", "1"]
    assert len((tmp_path / LIST).read_text().splitlines()) == 5
    forgotten = forgotten_in(tmp_path, ["mine"])
    assert (forgotten.conversations, forgotten.speakers, forgotten.sources) == ({"1", "2"}, {"1"}, ("mine",))


def test_a_home_without_a_list_forgets_nothing(tmp_path):
    assert ids(tmp_path / "none") == [] and forgotten_in(tmp_path / "none").identity == ""
    (tmp_path / LIST).write_text("")
    assert forgotten_in(tmp_path).identity == ""


@pytest.mark.parametrize(
    "name", ["it's", 'say "hi"', " two  blanks ", "Zoë €\u2028", "a\nb\tc", "\\", "a/b", "📖"]
)
def test_any_name_is_read_as_it_was_written(tmp_path, name):
    append(tmp_path, [entry(name)])
    assert ids(tmp_path) == [name]


def test_a_line_whose_writer_was_killed_at_any_byte_is_ignored_and_the_next_writer_removes_it(tmp_path):
    append(tmp_path, [entry("1")])
    first = (tmp_path / LIST).read_bytes()
    append(tmp_path, [entry("2")])
    both = (tmp_path / LIST).read_bytes()
    for size in range(len(first), len(both)):
        (tmp_path / LIST).write_bytes(both[:size])
        assert ids(tmp_path) == ["1"]
        append(tmp_path, [entry("3")])
        assert ids(tmp_path) == ["1", "3"]


@pytest.mark.parametrize("line", ["{", '{"id": "1"}', "[]", "\0", '{"kind": "movie"}', "1"])
def test_a_whole_line_that_cannot_be_read_is_an_error_because_what_it_names_must_not_be_read(tmp_path, line):
    append(tmp_path, [entry("1")])
    with (tmp_path / LIST).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=r"forgotten\.jsonl:2 is no entry .* delete it"):
        forgotten_in(tmp_path)
    with pytest.raises(InputError, match=r"forgotten\.jsonl:2 is no entry"):
        append(tmp_path, [entry("2")])


def test_a_list_in_another_encoding_is_an_error_and_blank_lines_are_none(tmp_path):
    append(tmp_path, [entry("1")])
    text = (tmp_path / LIST).read_text()
    (tmp_path / LIST).write_bytes(f"\n{text}\r\n\n".encode())
    assert ids(tmp_path) == ["1"]
    (tmp_path / LIST).write_bytes(text.encode("utf-16"))
    with pytest.raises(InputError, match="is no entry"):
        entries(tmp_path)


def test_writers_at_the_same_time_lose_no_line(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: append(tmp_path, [entry(str(i)), entry(f"{i}b")]), range(40)))
    assert len(entries(tmp_path)) == 80


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be written .* set REPARTEE_HOME"):
        append(tmp_path, [entry("1")])
