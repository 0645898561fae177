"""Ephemeral server: a Prefect server that ends with the process that started it.

    python -m deployments.local.ephemeral_server API_URL PREFECT_HOME

Prefect's own ephemeral server keeps running if the process that runs the flow is killed. This server reads
from a pipe that closes when the parent process ends, for whatever reason; the server then ends as well. It
stores the runs in HOME/prefect, as the server of `repartee up` does.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.local.garbage import collect_in_thread
from deployments.local.prefect_database import prepare
from deployments.local.processes import GRACE_SECONDS, answers
from deployments.local.services import any_free_port, browser_hardening
from deployments.local.supervisor import rotate
from environment import quiet_environment
from models.files import PROJECT
from models.processes import end_process, when_parent_ends
from services_state import HOST

log = logging.getLogger("deployments.local.ephemeral_server")  # the same name if run as __main__

START_SECONDS = 600  # creating a database takes 12 s on two cores, and minutes on a busy machine
NOTICE_SECONDS = 30  # after this time, a log line says what the command is waiting for

# Parts of the server that a single run does not need. The parts that record the run stay enabled.
LEAN = {
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


class Server:
    """A Prefect server in a child process; it is ready when `wait` returns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "prefect" / "server.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        address = f"http://{HOST}:{any_free_port()}"
        self.url = f"{address}/api"
        rotate(self.log)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.local.ephemeral_server", self.url, str(self.log.parent)],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **LEAN, **browser_hardening(address), "PREFECT_API_URL": ""},
            )

    def wait(self) -> str:
        """Wait until the server answers, and return the address of its API.

        Raises:
            RuntimeError: the server ended or did not answer in time; the message names its log file.
        """
        start_s, is_noticed = time.monotonic(), False
        while (elapsed_s := time.monotonic() - start_s) < START_SECONDS:
            if elapsed_s > NOTICE_SECONDS and not is_noticed:
                log.info(
                    "waiting for the Prefect server, which creates its database at its first start in a home"
                )
                is_noticed = True
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the Prefect server ended with status {self.process.returncode}; see {self.log}"
                )
            if answers(f"{self.url}/health"):
                return self.url
            time.sleep(0.05)
        raise RuntimeError(f"the Prefect server did not answer within {START_SECONDS} s; see {self.log}")

    def stop(self) -> None:
        """End the server, after giving it time to store what it has received."""
        assert self.process.stdin is not None
        end_process(self.process, GRACE_SECONDS)
        self.process.stdin.close()


@contextmanager
def temporary_server(home: Path) -> Iterator[Server]:
    """Start a server that ends when the `with` block ends; call `wait` before using the server.

    Raises:
        InputError: Prefect's database of this home could not be created.
    """
    prepare(home / "prefect")  # first, so that this time does not count towards START_SECONDS
    server = Server(home)
    try:
        yield server
    finally:
        server.stop()


def serve(url: str) -> None:
    """Run the server in this process until a signal arrives or the parent process ends."""
    import uvicorn
    from prefect.server.api.server import create_app

    when_parent_ends(lambda: os._exit(0))
    port = int(url.removesuffix("/api").rpartition(":")[2])
    app = create_app()
    collect_in_thread()
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    quiet_environment()
    os.environ["PREFECT_HOME"] = sys.argv[2]
    prepare(Path(sys.argv[2]))
    serve(sys.argv[1])
