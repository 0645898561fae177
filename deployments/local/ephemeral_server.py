"""Server: a Prefect server for one run, that lives as long as the process that started it.

Prefect's own ephemeral server outlives a killed flow; this one reads a pipe that closes with its
parent, however that ends. Its runs stay in HOME/prefect, where a server for the dashboard finds them.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments.local.prefect_database import prepare
from deployments.local.services import closed_to_strangers
from deployments.local.supervisor import rotate
from environment import quiet_environment
from models.files import PROJECT

log = logging.getLogger("deployments.local.ephemeral_server")  # also where it is __main__

START_SECONDS = 600  # a new database takes a dozen on two cores; on a busy machine minutes
NEWS_SECONDS = 30  # until whoever waits is told what for

# A single run has no schedule, no late runs, no foreman; what writes its own records down stays on.
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
    """A server that is starting or up."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "prefect" / "server.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        address = f"http://127.0.0.1:{_free_port()}"
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
                env={**os.environ, **LEAN, **closed_to_strangers(address), "PREFECT_API_URL": ""},
            )

    def wait(self) -> str:
        """The address of its API, once it answers.

        Raises:
            RuntimeError: it ended or did not answer in time; its log is named.
        """
        began_s, was_told = time.monotonic(), False
        while (elapsed_s := time.monotonic() - began_s) < START_SECONDS:
            if elapsed_s > NEWS_SECONDS and not was_told:
                log.info("waits for Prefect's server, whose first start in a home lays out its database")
                was_told = True
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the Prefect server ended with status {self.process.returncode}; see {self.log}"
                )
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).close()
                return self.url
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"the Prefect server did not answer within {START_SECONDS} s; see {self.log}")

    def stop(self) -> None:
        """End it, giving it a moment to write down what it was sent."""
        assert self.process.stdin is not None
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()


@contextmanager
def temporary_server(home: Path) -> Iterator[Server]:
    """A server that is starting; `wait` for it before its first use."""
    prepare(home / "prefect")  # here, so that the server's time to start is its own
    server = Server(home)
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    while os.read(0, 1024):  # nothing is left to read when the last holder of the other end is gone
        pass
    os._exit(0)


def serve(url: str) -> None:
    """Run the server in this process until it is told to end."""
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_with_parent, daemon=True).start()
    port = int(url.removesuffix("/api").rpartition(":")[2])
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    quiet_environment()
    os.environ["PREFECT_HOME"] = sys.argv[2]
    prepare(Path(sys.argv[2]))
    serve(sys.argv[1])
