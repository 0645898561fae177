"""The services that `repartee up` runs in a home: their supervisor, and the address of each service.

The supervisor (deployments/local/supervisor.py) holds HOME/services/up.lock for as long as it runs. It
describes the services in HOME/services/state.json, which other processes read to find a server.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.locks import is_held

HOST = "127.0.0.1"  # reachable from this machine only, because the servers have no login
PREFECT_PORT, MLFLOW_PORT = 4200, 5000  # the first choice; a service may get another port


@dataclass(frozen=True)
class ServiceState:
    """One service, as described in state.json."""

    pid: int
    """The id of the service's process, which leads a process group."""
    address: str
    """The address at which the service answers; empty if it does not listen."""
    health: str
    """The address of the service's health check; empty if it has none."""
    starting: bool = False
    """True while the service starts for the first time; until it has started, clients ignore its address."""


@dataclass(frozen=True)
class SupervisorState:
    """The content of state.json."""

    pid: int = 0
    """The process id of the supervisor; 0 if it is not known."""
    services: dict[str, ServiceState] = field(default_factory=dict)


def services_folder(home: Path) -> Path:
    """The folder HOME/services, which is created if it is missing."""
    folder = home / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def up_lock(home: Path) -> Path:
    """The path of the lock that this home's supervisor holds. The file and its folder may not exist yet."""
    return home / "services" / "up.lock"


def running_services(home: Path) -> SupervisorState | None:
    """The state of the services of this home; None if no supervisor is running."""
    return last_state(home) if is_held(up_lock(home)) else None


def last_state(home: Path) -> SupervisorState:
    """The content of state.json, even if no supervisor is running; empty if the file cannot be read."""
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
    """Replace state.json in one step, so that no reader finds an incomplete file."""
    path = services_folder(home) / "state.json"
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(asdict(state), indent=2) + "\n")
    partial.replace(path)
