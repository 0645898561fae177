"""The history of the champion up to a moment."""

from datetime import UTC, datetime, timedelta

import pytest
from registries import three

from cli.champion import history, moment_of
from cli.terminal.tables import history_table
from models.errors import InputError
from models.registry.reference import open_registry
from settings import Settings


def test_the_history_up_to_a_moment_begins_with_the_champion_at_that_moment(tmp_path, monkeypatch, new_home):
    monkeypatch.setenv("REPARTEE_HOME", str(new_home(tmp_path / "home")))
    registry = open_registry(Settings())
    for version in three(registry, tmp_path)[:2]:
        registry.promote(version, f"v{version.number} is better")
    newest, oldest = (datetime.fromisoformat(entry["at"]) for entry in history(None))
    assert [entry["version"] for entry in history(None, newest)] == [2, 1]
    assert [entry["version"] for entry in history(None, newest - timedelta(microseconds=1))] == [1]
    before = history(None, oldest - timedelta(seconds=1))
    assert before == []
    assert history_table(before, "2020-01-01") == "no version was the champion at 2020-01-01 or before"


def test_a_date_means_its_end_and_a_time_that_time_in_utc():
    assert moment_of("2026-11-29") == datetime(2026, 11, 29, 23, 59, 59, 999999, UTC)
    assert moment_of("2026-11-29T06:30") == datetime(2026, 11, 29, 6, 30, tzinfo=UTC)
    assert moment_of("2026-11-29T06:30+01:00") == datetime.fromisoformat("2026-11-29T05:30+00:00")
    with pytest.raises(InputError, match="not a date; write --at 2026-11-29"):
        moment_of("yesterday")
