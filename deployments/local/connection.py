"""A client for the Prefect server that knows the deployments of a home.

Without a configured or running server, a temporary server opens the database of the home.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.ephemeral_server import temporary_server
from deployments.local.recorded import check_answers
from deployments.local.services import client_env
from deployments.local.supervisor import await_up
from models.files import PROJECT
from settings import Settings

log = logging.getLogger("deployments.local.connection")

DEPLOYMENT = "retrain/retrain"


@contextmanager
def connect(settings: Settings) -> Iterator[SyncPrefectClient]:
    """A client of the configured server, of the server of `repartee up`, or of a temporary server.

    Raises:
        InputError: the configured server cannot be used.
    """
    await_up(settings.root)
    if settings.prefect_api_url:
        check_answers(settings.prefect_api_url)
    if url := settings.prefect_url:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            yield client
        return
    log.info("opening the schedules of this home, because `repartee up` is not running")
    with temporary_server(settings.root) as server:
        url = server.wait()
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            _create_deployments(client, settings, url)
            yield client


def _create_deployments(client: SyncPrefectClient, settings: Settings, url: str) -> None:
    """Create the deployments if this home has none yet."""
    try:
        client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound:
        log.info("creating the deployments")
        subprocess.run(
            [sys.executable, "-m", "deployments.install"],
            cwd=PROJECT,
            env={**os.environ, **client_env(settings.root, url, settings.tracking_uri)},
            capture_output=True,
            check=True,
        )
