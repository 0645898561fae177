"""Doctor: what is wrong with this installation, each fault with the command that mends it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from deployments.doctor import leftovers, machine, runs, servers
from deployments.doctor.installation import Check, CheckSkipped, Fault, Installation
from models.errors import InputError
from settings import Settings

log = logging.getLogger(__name__)

CHECKS: dict[str, Check] = {
    "packages": machine.packages,
    "home": machine.home,
    "disk": machine.disk,
    "leftovers": leftovers.leftovers,
    "locks": machine.locks,
    "gpu": machine.gpu,
    "switches": machine.switches,
    "ports": machine.ports,
    "databases": servers.databases,
    "services": servers.services,
    "strangers": servers.cross_origin_access,
    "clock": servers.clock,
    "deployments": runs.deployments,
    "champion": runs.champion,
    "dead runs": runs.dead,
    "slots": runs.slots,
    "late runs": runs.late,
}


@dataclass
class CheckResult:
    """What one check found."""

    check: str
    state: Literal["ok", "fault", "unseen"]
    why: str
    faults: list[Fault]
    fixed: list[str]


def doctor(fix: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Make every check, one after the other, and mend what is safe to mend if told to."""
    made = []
    for name, check in CHECKS.items():
        found = _examine(name, check)
        fixed = [fault.what for fault in found.faults if fix and fault.fix and _mended(name, fault)]
        if fixed:
            found = _examine(name, check)
            found.fixed = fixed
        say(_text(found))
        made.append(found)
    checks = [vars(each) | {"faults": [_plain(fault) for fault in each.faults]} for each in made]
    healthy = all(not each.faults for each in made)
    return {"healthy": healthy, "home": str(Settings().root), "checks": checks}


def _examine(name: str, check: Check) -> CheckResult:
    installation = Installation(Settings())  # anew: an earlier check may have mended something
    try:
        faults = list(check(installation))
    except CheckSkipped as skipped:
        return CheckResult(name, "unseen", str(skipped), [], [])
    except InputError as error:  # its line names the remedy as well
        faults = [Fault(str(error), "")]
    except Exception as error:
        faults = [Fault(f"it cannot be examined: {type(error).__name__}: {error}", "")]
    why = " ".join((check.__doc__ or "").split())
    return CheckResult(name, "fault" if faults else "ok", why, faults, [])


def _mended(name: str, fault: Fault) -> bool:
    assert fault.fix
    try:
        fault.fix()
    except Exception as error:
        log.warning("%s: %s could not be done (%s)", name, fault.remedy, error)
        return False
    return True


def _text(found: CheckResult) -> str:
    name = f"{found.check:<12}"
    lines = [f"  fixed  {name}{what}" for what in found.fixed]
    for fault in found.faults:
        lines.append(f"  FAULT  {name}{fault.what}")
        if fault.remedy:
            safe = "   (or `repartee doctor --fix`)" if fault.fix else ""
            lines.append(f"         {'':<12}mend it: {fault.remedy}{safe}")
    sign = "-" if found.state == "unseen" else "ok"
    return "\n".join(lines or [f"  {sign:<7}{name}{found.why}"])


def _plain(fault: Fault) -> dict[str, Any]:
    return {"what": fault.what, "remedy": fault.remedy, "fixable": fault.fix is not None}


def summary(told: dict[str, Any]) -> str:
    wrong = [fault for each in told["checks"] for fault in each["faults"]]
    if not wrong:
        return f"\n{told['home']}: nothing is wrong"
    fixable = sum(fault["fixable"] for fault in wrong)
    more = f"; `repartee doctor --fix` mends {fixable} of them" if fixable else ""
    return f"\n{told['home']}: {len(wrong)} fault{'s' if len(wrong) > 1 else ''}{more}"
