"""Champion: promote a version manually, undo the last promotion, and list all promotions.

A training run promotes its model only through the gate.
"""

from datetime import UTC, datetime, time
from typing import Any

from models.errors import InputError
from models.registry.promotions import WHOEVER
from models.registry.reference import in_line, open_registry
from models.registry.runs import user
from models.registry.versions import Registry
from settings import Settings


def promote(ref: str, why: str | None, line: str | None) -> dict[str, Any]:
    """Make a version the champion, after its files have been verified.

    Raises:
        InputError: there is no such version, or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    registry, number_or_alias = in_line(ref, open_registry(Settings(), line))
    return _promote(registry, number_or_alias, why or f"promoted manually by {user()}")


def rollback(line: str | None) -> dict[str, Any]:
    """Make the previous champion the champion again; a second rollback undoes the first.

    Raises:
        InputError: there is no previous champion, or its files are damaged.
        ChampionMoved: another user or run has changed the champion in the meantime.
        TrackingUnavailable: MLflow does not answer.
    """
    registry = open_registry(Settings(), line)
    registry.reconcile()  # a promotion that moved the alias and was then interrupted also counts
    last = next(iter(registry.history()), None)
    if last is None or last.previous is None:
        raise InputError("there is no previous champion to return to; `repartee models` lists the versions")
    champion = registry.champion()
    why = f"v{last.version} was rolled back by {user()}"
    return _promote(registry, str(last.previous), why, champion.number if champion else None)


def history(line: str | None, until: datetime | None = None) -> list[dict[str, Any]]:
    """All changes of the champion up to a moment, the newest change first.

    Raises:
        TrackingUnavailable: MLflow does not answer.
    """
    return [
        {
            "at": entry.at.isoformat(),
            "version": entry.version,
            "previous": entry.previous,
            "why": entry.why,
            "flow_run_id": entry.flow_run_id,
        }
        for entry in open_registry(Settings(), line).history()
        if until is None or entry.at <= until
    ]


def moment_of(text: str) -> datetime:
    """The moment that a user gives as a date, which means its end, or as a date and a time.

    A text without a time zone is in UTC, as all times that the command prints are.

    Raises:
        InputError: the text is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"--at {text}: this is not a date; write --at 2026-11-29, or with a time --at 2026-11-29T06:30"
        ) from None
    if len(text) <= len("2026-11-29"):
        moment = datetime.combine(moment, time.max)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _promote(registry: Registry, ref: str, why: str, judged_against: int | None = WHOEVER) -> dict[str, Any]:
    version, before = registry.find(ref), registry.champion()
    if damage := registry.damage(version):
        raise InputError(f"v{version.number} cannot become the champion: {damage}")
    registry.promote(version, why, judged_against=judged_against, by_hand=True)
    previous = before.number if before else None
    return {"version": version.number, "previous": previous, "why": why}
