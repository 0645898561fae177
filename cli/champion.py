"""Champion: the version in service and its predecessors, changed by hand (a run does it through the gate)."""

from typing import Any

from models.errors import InputError
from models.registry.promotions import WHOEVER
from models.registry.reference import open_registry
from models.registry.runs import user
from models.registry.versions import Registry
from settings import Settings


def promote(ref: str, why: str | None) -> dict[str, Any]:
    """Make a version the champion, after its files have been verified.

    Raises:
        InputError: there is no such version, or its files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    return _promote(open_registry(Settings()), ref, why or f"by hand, by {user()}")


def rollback() -> dict[str, Any]:
    """Make the previous champion the champion again; a second rollback undoes the first.

    Raises:
        InputError: there is no previous champion, or its files are damaged.
        ChampionMoved: somebody else has changed the champion meanwhile.
        TrackingUnavailable: MLflow does not answer.
    """
    registry = open_registry(Settings())
    registry.reconcile()  # a promotion that was interrupted counts if its alias was moved
    last = next(iter(registry.history()), None)
    if last is None or last.previous is None:
        raise InputError("there was no champion before this one; `repartee models` lists the versions")
    champion = registry.champion()
    why = f"v{last.version} was rolled back, by {user()}"
    return _promote(registry, str(last.previous), why, champion.number if champion else None)


def history() -> list[dict[str, Any]]:
    """All changes of the champion, the newest first.

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
        for entry in open_registry(Settings()).history()
    ]


def _promote(registry: Registry, ref: str, why: str, judged_against: int | None = WHOEVER) -> dict[str, Any]:
    version, before = registry.find(ref), registry.champion()
    if damage := registry.damage(version):
        raise InputError(f"v{version.number} cannot serve: {damage}")
    registry.promote(version, why, judged_against=judged_against, by_hand=True)
    previous = before.number if before else None
    return {"version": version.number, "previous": previous, "why": why}
