"""When and why a version was in service, and the page of the Prefect run that trained it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.local.processes import answers
from models.registry.history import Promotion
from models.registry.tags import FLOW_RUN_ID
from tasks.run_page.prefect_runs import PrefectRun, prefect_run

PAGE = "/runs/flow-run/"  # in the address of a run's page, after the address of the dashboard


@dataclass(frozen=True)
class Period:
    """A time in which a version was the champion."""

    since: str
    until: str | None
    """None: it still is."""
    why: str
    instead_of: int | None
    replaced_by: int | None
    flow_run_id: str | None
    """The Prefect run that promoted the version; None if a user did."""


def periods_of(history: Sequence[Promotion], number: int) -> list[Period]:
    """The times in which a version was the champion, the latest first.

    Args:
        history: all promotions of the line, the newest first.
    """
    found = []
    for later, entry in zip([None, *history], history, strict=False):
        if entry.version == number:
            found.append(
                Period(
                    since=entry.at.isoformat(),
                    until=later.at.isoformat() if later else None,
                    why=entry.why,
                    instead_of=entry.previous,
                    replaced_by=later.version if later else None,
                    flow_run_id=entry.flow_run_id,
                )
            )
    return found


def trained_by(tags: Mapping[str, str], dashboard: str) -> tuple[PrefectRun, str] | None:
    """The Prefect run that trained a version, and the address of its page.

    The address is empty unless a dashboard that shows the run answers now. None if Prefect did not record the
    run.

    Args:
        dashboard: the address at which `repartee up` shows the runs of the home.
    """
    run = prefect_run(tags, dashboard)
    if run is None:
        return None
    pages = dict.fromkeys(
        [run.url, *([f"{dashboard}{PAGE}{tags[FLOW_RUN_ID]}"] if FLOW_RUN_ID in tags else [])]
    )
    return run, next((page for page in pages if is_shown(page)), "")


def is_shown(page: str) -> bool:
    """Whether the dashboard with this page of a run answers."""
    return answers(f"{page.partition(PAGE)[0]}/api/health")
