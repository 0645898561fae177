"""What the doctor looks at, and what it may find there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from deployments.local.supervisor import answers
from models.registry.reference import open_registry
from models.registry.versions import Registry
from settings import Settings, services_up

NO_HOME = "nothing has run here yet: `repartee run` makes the home"
NO_SERVER = "no server answers: `repartee up` starts them"


@dataclass(frozen=True)
class Fault:
    """Something wrong: what and where, and the command that mends it."""

    what: str
    remedy: str
    fix: Callable[[], object] | None = field(default=None, compare=False)
    """The remedy, where it is safe to do unasked: it loses nothing and decides nothing."""


class CheckSkipped(Exception):
    """There is nothing here to examine; the message says why."""


@dataclass(frozen=True)
class Installation:
    """A home and the services that it has to do with."""

    settings: Settings

    @property
    def home(self) -> Path:
        return self.settings.root

    @cached_property
    def services(self) -> dict[str, dict[str, Any]]:
        """Those that `repartee up` keeps; none: it is not up."""
        state = services_up(self.home)
        return state["services"] if state else {}

    @cached_property
    def prefect_url(self) -> str | None:
        """The API of the Prefect server that there is, where it answers."""
        url = self.settings.prefect_url
        return url if url and answers(f"{url}/health") else None

    @cached_property
    def registry(self) -> Registry:
        return open_registry(self.settings)


Check = Callable[[Installation], Iterator[Fault]]
