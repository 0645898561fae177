"""Connect to the Prefect server that stores the deployments of a home.

If no server is configured or running, a temporary server is started on the home's database.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.ephemeral_server import temporary_server
from deployments.local.prefect_database import set_damaged_aside
from deployments.local.recorded import check_answers
from deployments.local.services import client_env
from deployments.local.supervisor import await_up
from models.errors import InputError
from models.files import PROJECT
from settings import Settings

log = logging.getLogger("deployments.local.connection")


class NoDatabase(InputError):
    """No server is running, and the home has no Prefect database yet."""


@contextmanager
def connect(settings: Settings, *, creates: bool = False) -> Iterator[SyncPrefectClient]:
    """Yield a client for a Prefect server: the configured one, that of `repartee up`, or a temporary one.

    Args:
        creates: whether to create a Prefect database if the home has none.

    Raises:
        NoDatabase: there is neither a server nor a database, and `creates` is False.
        InputError: the configured server cannot be used, or the temporary server does not start.
    """
    await_up(settings.root)
    if settings.prefect_api_url:
        check_answers(settings.prefect_api_url)
    with (
        _server(settings, creates=creates) as url,
        temporary_settings({PREFECT_API_URL: url}),
        get_client(sync_client=True) as client,
    ):
        yield client


@contextmanager
def _server(settings: Settings, *, creates: bool) -> Iterator[str]:
    if settings.prefect_url:
        yield settings.prefect_url
        return
    database = settings.root / "prefect" / "prefect.db"
    if not creates and not database.exists():
        raise NoDatabase(f"{settings.root} has no schedules yet; `repartee schedule add` adds one")
    set_damaged_aside(database)
    log.info("starting a Prefect server for this command, because `repartee up` is not running")
    with temporary_server(settings.root) as server:
        try:
            url = server.wait()
        except RuntimeError as error:
            raise InputError(str(error)) from error
        yield url


def create_deployments(home: Path, prefect_api_url: str, tracking_uri: str) -> None:
    """Create the deployments on this server, in a separate process, whose memory is freed when it ends.

    Raises:
        InputError: the deployments could not be created; the message quotes the last line of the output.
    """
    done = subprocess.run(
        [sys.executable, "-m", "deployments.install"],
        cwd=PROJECT,
        env={**os.environ, **client_env(home, prefect_api_url, tracking_uri)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise InputError(f"the deployments could not be created: {lines[-1][:300] if lines else ''}")
