"""The form's field `settings` contains several settings in the notation of `--set`."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.notation import FORM_PATTERN, join_settings, parse_value, read_change, show_value, split_settings

KEYS = st.sampled_from(["train.seed", "generation.stop", "start.init", "a", "b.c"])
# All JSON values, and texts made of characters that have a meaning in the notation.
TEXTS = st.text() | st.text(alphabet=' ,="[]{}\\\r\n\té漢1:.-', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=5))
def test_any_values_come_back_from_the_text_that_holds_them(pairs):
    read = [read_change(text, "settings: ") for text in split_settings(join_settings(pairs))]
    assert [(change.key, change.value) for change in read] == pairs


@given(KEYS, VALUES)
def test_a_shown_value_is_one_setting_in_either_place(key, value):
    text = f"{key}={show_value(value)}"
    assert split_settings(text) == [text]
    assert parse_value(show_value(value)) == value


@given(st.text(alphabet=' ,="[]{}\\\r\nab1.', max_size=40))
def test_every_text_is_split_into_settings_that_nothing_splits_further(text):
    parts = split_settings(text)
    assert all(part and part == part.strip() for part in parts)
    assert [each for part in parts for each in split_settings(part)] == parts
    assert sum(map(len, parts)) <= len(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" , \n,", []),
        ("train.seed=1", ["train.seed=1"]),
        ("train.seed=1, train.max_epochs=4", ["train.seed=1", "train.max_epochs=4"]),
        ("train.seed=1\r\ntrain.max_epochs=4\n", ["train.seed=1", "train.max_epochs=4"]),
        ("a = 1 ,b= x y ", ["a = 1", "b= x y"]),
        ('a=["x, y", "z"], b=2', ['a=["x, y", "z"]', "b=2"]),
        ('a= ["x",\n "z"]\nb=2', ['a= ["x",\n "z"]', "b=2"]),
        ('a="x, \\"y\\"", b=2', ['a="x, \\"y\\""', "b=2"]),
        ('a={"k": [1, 2]} , b=2', ['a={"k": [1, 2]}', "b=2"]),
        ("a=x=y, b=2", ["a=x=y", "b=2"]),
        ('a=5" x, b=2', ['a=5" x', "b=2"]),  # a quotation mark inside a text has no special meaning
        ("a=['x', 'y']", ["a=['x'", "'y']"]),  # this is not JSON, so the text ends at the comma
        ('a=["x", "y"', ['a=["x"', '"y"']),
        ('a="x" y, b=2', ['a="x" y', "b=2"]),
        ("train.seed, b=2", ["train.seed", "b=2"]),
        ("a=, b=2", ["a=", "b=2"]),
        ("a=\n[1, 2]", ["a=", "[1", "2]"]),  # a value must begin on the same line as its key
    ],
)
def test_a_text_ends_at_a_separator_and_json_where_it_closes(text, parts):
    assert split_settings(text) == parts


def test_brackets_in_great_number_are_text():
    deep = "[" * 100_000
    assert split_settings(f"a={deep}, b=1") == [f"a={deep}", "b=1"]
    assert parse_value(deep) == deep


@pytest.mark.parametrize(
    "value", ["null", "true", "3", "1e3", "NaN", "", " a", "a ", "a\nb", "a,b", '"', "[", "{}"]
)
def test_a_text_that_looks_like_something_else_is_shown_in_double_quotes(value):
    assert show_value(value) == (json.dumps(value) if value else "")


def test_other_languages_are_shown_as_they_are_written():
    assert join_settings([("generation.stop", ["ça, là", "漢字"])]) == 'generation.stop=["ça, là", "漢字"]'


@given(st.lists(st.tuples(KEYS, VALUES), max_size=3))
def test_the_form_takes_every_text_of_settings_but_addresses(pairs):
    text = join_settings(pairs)
    if not re.search("://|https?:", text, re.IGNORECASE):
        assert re.search(FORM_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("", True),
        (" \n", True),
        ("\n train.seed = 3,\n", True),
        ("train.learning-rat=1", True),  # the form accepts it; the run's error suggests the key
        ("train.seed", False),
        ("--set train.seed=3", False),
        ("seed 3", False),
        ("=3", False),
        ('{"train": {"seed": 3}}', False),
        ("download.corpus=https://me:s3cr3t@h.org/films.zip", False),
        ("download.corpus=HTTPS:h.org/films.zip?token=s3cr3t", False),
        ("train.seed=3,\ndownload.corpus=ftp://me:s3cr3t@h.org/films.zip", False),
    ],
)
def test_the_form_refuses_what_does_not_begin_with_a_setting_and_what_may_hold_a_secret(text, is_taken):
    """The server checks the pattern before it stores the parameters."""
    assert bool(re.search(FORM_PATTERN, text)) == is_taken
