"""What the doctor examines, and what a check may find."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from deployments.local.processes import answers
from models.registry.reference import open_registry
from models.registry.versions import Registry
from services_state import ServiceState, running_services
from settings import Settings

NO_HOME = "nothing has run in this home yet: `repartee run` creates it"
NO_SERVER = "no server answers: `repartee up` starts them"


@dataclass(frozen=True)
class Fault:
    """Something that is wrong."""

    what: str
    """What is wrong, and where."""
    remedy: str
    """The command that mends it; empty if `what` says it all."""
    fix: Callable[[], object] | None = field(default=None, compare=False)
    """Does what the remedy does; None if `doctor --fix` must not: data or a choice would be lost."""


class CheckSkipped(Exception):
    """There is nothing that the check could examine; the message says why."""


@dataclass(frozen=True)
class Installation:
    """A home and the servers that it uses."""

    settings: Settings

    @property
    def home(self) -> Path:
        return self.settings.root

    @cached_property
    def services(self) -> dict[str, ServiceState]:
        """The services that `repartee up` runs; empty if they are not up."""
        state = running_services(self.home)
        return state.services if state else {}

    @cached_property
    def prefect_url(self) -> str | None:
        """The API of the Prefect server that is configured or up; None if none answers."""
        url = self.settings.prefect_url
        return url if url and answers(f"{url}/health") else None

    @cached_property
    def registry(self) -> Registry:
        """The registered models."""
        return open_registry(self.settings)


Check = Callable[[Installation], Iterator[Fault]]
"""A check yields the faults that it finds. Its docstring is the sentence that holds if there are none."""
