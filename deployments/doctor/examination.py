"""Doctor: find what is wrong with this installation, and name the command that fixes each fault."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from deployments.doctor import leftovers, machine, runs, servers, trunks
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
    "cross-origin": servers.cross_origin_access,
    "clock": servers.clock,
    "deployments": runs.deployments,
    "champion": runs.champion,
    "trunks": trunks.trunks,
    "dead runs": runs.dead,
    "slots": runs.slots,
    "late runs": runs.late,
}


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    check: str
    state: Literal["ok", "fault", "unseen"]
    """`unseen`: the check was skipped."""
    why: str
    """What the check verifies, as a statement that is true if there is no fault; or why the check was
    skipped."""
    faults: list[Fault] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)
    """The faults that were found and fixed."""

    def to_json(self) -> dict[str, Any]:
        faults = [
            {"what": fault.what, "remedy": fault.remedy, "fixable": fault.fix is not None}
            for fault in self.faults
        ]
        return vars(self) | {"faults": faults}


def doctor(fix: bool, report: Callable[[CheckResult], None]) -> dict[str, Any]:
    """Run all checks in order, and pass the result of each check to `report`.

    Args:
        fix: whether to fix the faults that can be fixed without losing data.
    """
    results = []
    for name, check in CHECKS.items():
        result = _examine(name, check)
        fixed = [fault.what for fault in result.faults if fix and fault.fix and _is_mended(name, fault)]
        if fixed:
            after = _examine(name, check)
            result = CheckResult(name, after.state, after.why, after.faults, fixed)
        report(result)
        results.append(result)
    return {
        "healthy": all(not result.faults for result in results),
        "home": str(Settings().root),
        "checks": [result.to_json() for result in results],
    }


def _examine(name: str, check: Check) -> CheckResult:
    installation = Installation(
        Settings()
    )  # a new object for each check, because an earlier fix may have changed the installation
    try:
        faults = list(check(installation))
    except CheckSkipped as skipped:
        return CheckResult(name, "unseen", str(skipped))
    except InputError as error:  # its message also names the remedy
        faults = [Fault(str(error), "")]
    except Exception as error:
        faults = [Fault(f"the check itself failed: {type(error).__name__}: {error}", "")]
    return CheckResult(name, "fault" if faults else "ok", " ".join((check.__doc__ or "").split()), faults)


def _is_mended(name: str, fault: Fault) -> bool:
    assert fault.fix
    try:
        fault.fix()
    except Exception as error:
        log.warning("%s: the remedy `%s` failed (%s)", name, fault.remedy, error)
        return False
    return True
