"""Serve: run the deployments in one process, without a work pool or a worker.

    python -m deployments.serve

This process executes the runs of the deployments in prefect.yaml, for the Prefect server that is configured
or running. A later `repartee up` assigns the deployments to its worker again. On a signal, this process lets
a training run write a checkpoint before the run ends, as deployments/worker.py does. If a deployment missed
several runs while this process was down, only the newest missed run of each schedule is run at the next
start.
"""

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from console import show_progress
from deployments.worker import CLOSE, run_until_signalled
from environment import quiet_environment
from models.files import PROJECT
from settings import Settings

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

log = logging.getLogger("deployments.serve")  # the same name if this module runs as __main__

RUNNER = "runner"  # the argument that marks the inner process, which imports Prefect and runs the flows


def main(arguments: list[str]) -> int | str:
    """Serve until a signal arrives. Return the exit status, or an error message if there is no server."""
    quiet_environment()
    show_progress()
    url = Settings().prefect_url
    if url is None:
        return (
            "serve: there is no Prefect server; start one with `repartee up`, "
            "or set PREFECT_API_URL to the address of your server"
        )
    # Prefect reads these variables once, when it is imported, and the processes of the runs inherit them.
    os.environ["PREFECT_API_URL"] = url
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "2")
    os.environ["REPARTEE_HOME"] = str(Settings().root)
    os.chdir(PROJECT)  # the entrypoints are relative to this folder
    if arguments != [RUNNER]:
        return run_until_signalled([sys.executable, "-m", "deployments.serve", RUNNER], CLOSE)
    asyncio.run(_run())
    return 0


async def _run() -> None:
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    from deployments.deploy import entries
    from deployments.install import put_in_order

    runner = Runner(name="repartee", pause_on_shutdown=False)
    with get_client(sync_client=True) as client:
        deployments = entries(client)
    for entry in deployments:
        await runner.aadd_deployment(_served(entry))
    await asyncio.to_thread(put_in_order)
    log.info(
        "serving the deployments of prefect.yaml at %s; press Ctrl-C to stop", os.environ["PREFECT_API_URL"]
    )
    running = asyncio.ensure_future(runner.start())
    await asyncio.sleep(0)
    # This handler replaces Prefect's own handler, which does not wait for the run to end.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running


def _served(entry: dict[str, Any]) -> "RunnerDeployment":
    """A deployment of prefect.yaml in the form that Prefect's runner expects."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import RunnerDeployment
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Cron

    schedules = [dict(each) for each in entry.get("schedules", [])]
    limit = entry.get("concurrency_limit")
    deployment = RunnerDeployment.from_flow(
        load_flow_from_entrypoint(entry["entrypoint"]),
        name=entry["name"],
        description=entry["description"],
        parameters=entry.get("parameters"),
        tags=entry.get("tags"),
        paused=entry.get("paused"),
        schedules=[Cron(each.pop("cron"), **each) for each in schedules],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
    )
    # If these fields were sent with empty values, the server would delete its own values.
    deployment.model_fields_set.difference_update({"schedules", "job_variables"} - entry.keys())
    return deployment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
