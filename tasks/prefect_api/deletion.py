"""Deletion: if a user deletes a run in a dashboard, its training stops; the checkpoint is kept."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from models.errors import InputError
from models.registry.versions import Registry

log = logging.getLogger(__name__)

EVERY_SECONDS = 15
TIMEOUT_S = 10.0  # for a response from Prefect


class RunDeleted(InputError):
    """A user has deleted the MLflow run or the Prefect run during training."""


@contextmanager
def deletions(
    sources: Mapping[str, Callable[[], bool]], every_s: float = EVERY_SECONDS
) -> Iterator[list[str]]:
    """Watch for deleted runs. Yields a list to which the name of each deleted run is added.

    `sources` maps each run's name to a function that checks whether the run has been deleted. Each run is
    watched in its own thread, so that a check that hangs does not delay the others.
    """
    found: list[str] = []
    stop = threading.Event()

    def watch(name: str, is_deleted: Callable[[], bool]) -> None:
        while not stop.wait(every_s):
            try:
                if is_deleted():
                    found.append(name)
                    return
            except Exception as error:  # an outage does not mean that the run is deleted
                log.debug("%s: could not find out whether the run still exists: %s", name, error)

    for name, is_deleted in sources.items():
        # Copy the context variables, in which Prefect stores settings such as the address of the server.
        run = copy_context().run
        threading.Thread(
            target=run, args=(watch, name, is_deleted), name=f"watch-{name}", daemon=True
        ).start()
    try:
        yield found
    finally:
        stop.set()


def sources_of(
    registry: Registry, run_id: str | None, flow_run_id: str | None
) -> dict[str, Callable[[], bool]]:
    """Functions that check whether the MLflow run and the Prefect run have been deleted."""
    sources: dict[str, Callable[[], bool]] = {}
    if run_id:
        sources[f"MLflow run {run_id}"] = lambda: registry.is_deleted(run_id)
    if flow_run_id:
        sources[f"Prefect run {flow_run_id}"] = lambda: _is_deleted_in_prefect(flow_run_id)
    return sources


def raise_if_deleted(found: list[str], work: Path) -> None:
    """
    Raises:
        RunDeleted: `found` contains the name of a deleted run.
    """
    if found:
        raise RunDeleted(
            f"{found[0]} was deleted during training, so training was stopped; the checkpoint is kept "
            f"in {work}, and the same command resumes from it"
        )


def _is_deleted_in_prefect(flow_run_id: str) -> bool:
    # With `httpx_settings`, Prefect returns a new client. This thread must not close the flow's own client.
    with get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client:
        try:
            client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
        except ObjectNotFound:
            return True
    return False
