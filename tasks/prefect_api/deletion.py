"""Deletion: a training ends if somebody deletes its run in a dashboard; its checkpoint is kept."""

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
TIMEOUT_S = 10.0  # for Prefect's answer


class RunDeleted(InputError):
    """Somebody has deleted the run of this training."""


@contextmanager
def deletions(
    sources: Mapping[str, Callable[[], bool]], every_s: float = EVERY_SECONDS
) -> Iterator[list[str]]:
    """Watch several sources; yields a list to which those are added that say that the run is deleted.

    Each source has a thread of its own, so that one that hangs does not delay the others.
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
                log.debug("%s does not say whether the run exists: %s", name, error)

    for name, is_deleted in sources.items():
        # The settings of Prefect, such as the address of its server, belong to the context.
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
    """Functions that find out whether the MLflow run and the Prefect run of a training are deleted."""
    sources: dict[str, Callable[[], bool]] = {}
    if run_id:
        sources[f"MLflow run {run_id}"] = lambda: registry.is_deleted(run_id)
    if flow_run_id:
        sources[f"Prefect run {flow_run_id}"] = lambda: _is_deleted_in_prefect(flow_run_id)
    return sources


def raise_if_deleted(found: list[str], work: Path) -> None:
    """
    Raises:
        RunDeleted: the run is deleted.
    """
    if found:
        raise RunDeleted(
            f"{found[0]} was deleted while it trained, so the training was stopped; its checkpoint is kept "
            f"in {work}, and the same command continues from it"
        )


def _is_deleted_in_prefect(flow_run_id: str) -> bool:
    # With settings of its own it is another client: only the thread of the flow may close that of the flow.
    with get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client:
        try:
            client.read_flow_run(flow_run_id)  # type: ignore[arg-type]
        except ObjectNotFound:
            return True
    return False
