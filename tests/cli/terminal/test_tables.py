"""The state of a home as text."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cli.terminal.tables import history_table, status_table


def status(**values: Any) -> dict[str, Any]:
    none: dict[str, Any] = {
        "home": "/home/var",
        "services": {},
        "training": None,
        "champion": None,
        "champions": [],
        "unknown": None,
        "disk": {"used_bytes": 10_000_000, "free_bytes": 10_000_000_000},
        "last_run": None,
        "next_runs": None,
        "scheduled": None,
    }
    return none | values


def test_the_last_run_is_one_sentence_that_says_everything_once() -> None:
    run = {
        "name": "quick-sample #1: promoted v1",
        "state": "Completed",
        "why": "Promoted: repartee v1 is the champion; there was no champion before",
        "ended": "2026-11-29 00:03:12.5+00:00",
    }
    text = status_table(status(last_run=run, next_runs=[], scheduled=False))
    assert (
        "  last run  quick-sample #1 (2026-11-29 00:03 UTC) promoted: repartee v1 is the champion; there was no "
        "champion before\n"
    ) in text
    failed = run | {"name": "quick-sample #2", "state": "Failed", "why": "the disk is full"}
    text = status_table(status(last_run=failed, next_runs=[], scheduled=False))
    assert "quick-sample #2 (2026-11-29 00:03 UTC) failed: the disk is full\n" in text


def test_without_a_server_the_runs_are_unknown_in_one_line() -> None:
    assert status_table(status()).count("no Prefect server answers") == 1


def test_the_age_of_a_champion_is_in_words_and_never_zero() -> None:
    def shown(minutes: int) -> str:
        since = (datetime.now(UTC) - timedelta(minutes=minutes, seconds=5)).isoformat()
        champion = {
            "line": "repartee",
            "version": 1,
            "since": since,
            "test_bpb": 0.0743,
            "recipe": "quick",
            "corpus": "sample",
        }
        return status_table(status(champion=champion, champions=[champion])).splitlines()[1]

    assert " UTC, quick on sample" in shown(0)
    assert " UTC (1 minute), " in shown(1)
    assert " UTC (41 minutes), " in shown(41)
    assert " UTC (5 hours), " in shown(300)


def test_the_history_gives_the_time_zone_of_each_change() -> None:
    entry = {"at": "2026-11-29T00:03:12+00:00", "version": 1, "previous": None, "why": "no champion yet"}
    assert "2026-11-29 00:03 UTC  v1" in history_table([entry])


def test_a_trunk_is_one_line_with_its_nights_or_with_its_damage() -> None:
    trunk = {
        "line": "support bot",
        "network": "llama-4x128",
        "nights": 3,
        "since": "2020-11-29T03:14:00+00:00",
        "validation_bpb": 1.6213,
        "stale": 1,
        "damage": "",
    }
    text = status_table(status(trunks=[trunk]))
    assert "  trunk     support bot, 3 nights of llama-4x128 since 2020-11-29 03:14 UTC (" in text
    assert "1.6213 bits per byte in validation, 1 night in a row no better\n" in text
    text = status_table(status(trunks=[trunk | {"damage": "state.json is missing"}]))
    assert "  trunk     state.json is missing; the next night begins again (`repartee doctor`)\n" in text
