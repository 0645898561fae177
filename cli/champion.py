"""Champion: who serves, who did before, and why; changed by hand here, by the gate in a run."""

from typing import Any

from models.errors import InputError
from models.registry.promotions import WHOEVER
from models.registry.reference import open_registry
from models.registry.runs import user
from models.registry.versions import Registry
from settings import Settings


def promote(ref: str, why: str | None) -> dict[str, Any]:
    """Put a version into service, once its files are as they were registered."""
    return _promote(open_registry(Settings()), ref, why or f"by hand, by {user()}")


def rollback() -> dict[str, Any]:
    """Put the champion's predecessor into service again; once more takes that back."""
    registry = open_registry(Settings())
    registry.reconcile()  # a promotion that was cut off counts as what it came to
    last = next(iter(registry.history()), None)
    if last is None or last.previous is None:
        raise InputError("there was no champion before this one; `repartee models` lists the versions")
    champion = registry.champion()
    why = f"v{last.version} was rolled back, by {user()}"
    return _promote(registry, str(last.previous), why, champion.number if champion else None)


def _promote(registry: Registry, ref: str, why: str, instead_of: int | None = WHOEVER) -> dict[str, Any]:
    version, before = registry.find(ref), registry.champion()
    if damage := registry.damage(version):
        raise InputError(f"v{version.number} cannot serve: {damage}")
    registry.promote(version, why, judged_against=instead_of, by_hand=True)
    previous = before.number if before else None
    return {"version": version.number, "previous": previous, "why": why}


def promoted_text(told: dict[str, Any]) -> str:
    if told["version"] == told["previous"]:
        return f"v{told['version']} is the champion already"
    before = f" instead of v{told['previous']}" if told["previous"] else ""
    return f"v{told['version']} is the champion now{before}; `repartee rollback` takes it back"


def history() -> list[dict[str, Any]]:
    """Each change of the champion, the newest first."""
    return [
        {"at": entry.at.isoformat(), "version": entry.version, "previous": entry.previous, "why": entry.why}
        | {"flow_run_id": entry.flow_run_id}
        for entry in open_registry(Settings()).history()
    ]


def history_text(told: list[dict[str, Any]]) -> str:
    if not told:
        return "no version has been champion yet; `repartee run` makes the first"
    lines = [f"{'since (UTC)':<18}{'version':<9}{'before':<8}why"]
    for entry in told:
        before = f"v{entry['previous']}" if entry["previous"] else "-"
        since = entry["at"][:16].replace("T", " ")
        lines.append(f"{since:<18}v{entry['version']:<8}{before:<8}{entry['why']}")
    return "\n".join(lines)
