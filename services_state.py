"""The services that `repartee up` runs in a home: which process supervises them, and where each one answers.

HOME/services/up.lock is held by the supervisor for as long as it lives. HOME/services/state.json beside it
is written by the supervisor (deployments/local/supervisor.py) and read by everybody who looks for a server.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.locks import is_held


@dataclass(frozen=True)
class ServiceState:
    """One service as state.json describes it."""

    pid: int
    """Its process, which leads a process group."""
    address: str
    """Where it answers; empty: it listens nowhere."""
    health: str
    """The address of its health check; empty: it has none."""
    starting: bool = False
    """It starts for the first time, and nobody is sent to its address yet."""


@dataclass(frozen=True)
class SupervisorState:
    """The content of state.json."""

    pid: int = 0
    """The process of the supervisor; 0: not known."""
    services: dict[str, ServiceState] = field(default_factory=dict)


def services_folder(home: Path) -> Path:
    """HOME/services, which is created if it is missing."""
    folder = home / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def up_lock(home: Path) -> Path:
    """The lock that the supervisor of this home holds; neither the file nor its folder need exist."""
    return home / "services" / "up.lock"


def running_services(home: Path) -> SupervisorState | None:
    """The state of the services of this home; None: no supervisor is alive."""
    return last_state(home) if is_held(up_lock(home)) else None


def last_state(home: Path) -> SupervisorState:
    """What the last supervisor wrote, dead or alive; process 0 and no services if nothing is readable."""
    try:
        content = json.loads((home / "services" / "state.json").read_text())
        services = {
            str(name): ServiceState(
                pid=int(each["pid"]),
                address=str(each["address"]),
                health=str(each["health"]),
                starting=bool(each.get("starting")),
            )
            for name, each in content["services"].items()
        }
        return SupervisorState(int(content["pid"]), services)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return SupervisorState()


def write_state(home: Path, state: SupervisorState) -> None:
    """Replace state.json in one step, so that no reader finds half of it."""
    path = services_folder(home) / "state.json"
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(asdict(state), indent=2) + "\n")
    partial.replace(path)
