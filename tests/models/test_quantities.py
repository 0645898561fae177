"""Tests of counts and durations in a form that people can read."""

import pytest

from models.quantities import count_text, duration_text


@pytest.mark.parametrize(
    ("count", "unit", "text"),
    [
        (603, "steps", "603 steps"),
        (1, "steps", "1 step"),
        (1, "replies", "1 reply"),
        (83097, "turns", "83,097 turns"),
    ],
)
def test_a_count_has_its_unit_and_one_is_singular(count, unit, text):
    assert count_text(count, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (108.6, "1 min 49 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_duration_is_in_its_two_largest_units_and_never_shows_60_of_one(seconds, text):
    assert duration_text(seconds) == text
