"""The installation that the doctor examines, and the faults that its checks find."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from deployments.local.processes import answers
from models.registry.reference import open_registry
from models.registry.versions import Registry
from services_state import ServiceState, running_services
from settings import Settings

NO_HOME = "this home does not exist yet; `repartee run` creates it"
NO_SERVER = "no server answers; `repartee up` starts the servers"


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the installation."""

    what: str
    """What is wrong, and where."""
    remedy: str
    """The command that fixes the fault; empty if `what` already names the command, or if there is none."""
    fix: Callable[[], object] | None = field(default=None, compare=False)
    """Applies the remedy; None if `doctor --fix` may not apply it, for example because data would be lost."""


class CheckSkipped(Exception):
    """Raised by a check that has nothing to examine; the message says why."""


@dataclass(frozen=True)
class Installation:
    """A home and the servers that it uses."""

    settings: Settings

    @property
    def home(self) -> Path:
        return self.settings.root

    @cached_property
    def services(self) -> dict[str, ServiceState]:
        """The services that `repartee up` runs; empty if `repartee up` is not running."""
        state = running_services(self.home)
        return state.services if state else {}

    @cached_property
    def prefect_url(self) -> str | None:
        """The API address of the Prefect server that is configured or running; None if there is no such
        server or it does not answer."""
        url = self.settings.prefect_url
        return url if url and answers(f"{url}/health") else None

    @cached_property
    def registry(self) -> Registry:
        """The registry that holds the versions of the model."""
        return open_registry(self.settings)


Check = Callable[[Installation], Iterator[Fault]]
"""A check yields the faults that it finds. Its docstring states what is true if there are no faults."""
