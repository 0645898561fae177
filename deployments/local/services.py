"""Services: the processes that `repartee up` runs, each with its command, environment and health check."""

import os
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from environment import CSRF_PROTECTION, MLFLOW_SERVER, PREFECT_SERVER, WORKER
from models.errors import InputError
from models.files import PROJECT
from models.sqlite_files import address as address_of
from services_state import HOST

POOL = "repartee"
MAX_RUNS = 8
"""The number of runs that a worker takes at the same time: four of each of two deployments (prefect.yaml).

Without a limit, the worker takes all runs that are due, and asks Prefect again and again whether the
deployment has a free slot for each of them. A hundred runs that wait in this way occupy the worker and the
server so much that runs lose their slots while they start, and Prefect then cancels them.
"""
WORKER_START = ("worker", "start", "--pool", POOL, "--type", "process", "--limit", str(MAX_RUNS))


@dataclass(frozen=True)
class Service:
    """A process that the supervisor keeps running."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    address: str = ""
    """The address at which the service answers; empty if it does not listen on a port."""
    health: str = ""
    """The address of the health check, which returns 200 if the service is ready; empty if there is none."""


def prefect_service(home: Path, port: int) -> Service:
    """The Prefect server with its dashboard."""
    address = f"http://{HOST}:{port}"
    return Service(
        name="prefect",
        command=[
            sys.executable,
            "-m",
            "deployments.local.ephemeral_server",
            f"{address}/api",
            str(home / "prefect"),
        ],
        env={
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": "",
            "PREFECT_SERVER_UI_API_URL": f"{address}/api",
            **browser_hardening(address),
            **PREFECT_SERVER,
            "PREFECT_LOGGING_LEVEL": "WARNING",
        },
        address=address,
        health=f"{address}/api/health",
    )


def browser_hardening(address: str) -> dict[str, str]:
    """The settings that stop arbitrary web pages from sending requests to a local Prefect server."""
    return {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address, **CSRF_PROTECTION}


def mlflow_service(home: Path, port: int) -> Service:
    """The MLflow server. With one worker and no jobs, it needs a sixth of its usual memory."""
    address = f"http://{HOST}:{port}"
    (home / "mlartifacts").mkdir(parents=True, exist_ok=True)
    return Service(
        name="mlflow",
        command=[
            *(
                sys.executable,
                "-m",
                "deployments.local.child",
                str(home),
                sys.executable,
                "-m",
                "mlflow",
                "server",
            ),
            *("--host", HOST, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", address_of(home / "mlflow.db")),
            *("--default-artifact-root", (home / "mlartifacts").as_uri()),
            *("--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
        ],
        env=dict(MLFLOW_SERVER),
        address=address,
        health=f"{address}/health",
    )


def worker_service(home: Path, prefect_api_url: str, mlflow_url: str) -> Service:
    """The worker that runs scheduled and triggered flows on this machine."""
    return Service(
        name="worker",
        command=[
            *(sys.executable, "-m", "deployments.local.child", str(home), sys.executable, "-m", "prefect"),
            *WORKER_START,
            *("--name", f"repartee-{socket.gethostname()}"),
        ],
        env=client_env(home, prefect_api_url, mlflow_url) | WORKER,
    )


def client_env(home: Path, prefect_api_url: str, mlflow_url: str) -> dict[str, str]:
    """The environment of a process that uses these servers and works in this home."""
    return {
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_HOME": str(home / "prefect"),
        "MLFLOW_TRACKING_URI": mlflow_url,
        "REPARTEE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")])),
    }


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of this machine (0 stands for any port)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def take_port(preferred: int) -> tuple[int, FileLock]:
    """Return a port and the lock that reserves it. The port is the preferred one, or any free port if that
    one is in use.

    While the lock is held, no other home chooses this port. A server starts to listen only seconds after its
    port is chosen. Without the lock, another home could choose the same port in the meantime, and one home
    would use the server of the other.

    Raises:
        InputError: the folder for temporary files, where the locks are, cannot be used.
        OSError: no port is free.
    """
    folder = _port_locks_folder()
    for port in (preferred, *(any_free_port() for _ in range(10))):
        lock = FileLock(folder / f"{port}.lock", timeout=0)
        with suppress(Timeout):
            lock.acquire()
            if is_free(port):
                return port, lock
            lock.release()
    raise OSError(f"no port is free on {HOST}")


def _port_locks_folder() -> Path:
    """The folder of the port locks, which all homes of this user share. If another user owns a folder of this
    name, another name is used."""
    shared = Path(tempfile.gettempdir())
    for number in range(100):
        folder = shared / f"repartee-ports-{os.getuid()}{f'-{number}' if number else ''}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # a file has this name
            continue
        except OSError as error:
            raise InputError(
                f"the folder for temporary files {shared} is not writable ({error.strerror}): "
                "set TMPDIR to a writable folder"
            ) from None
        status = folder.lstat()
        if status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode):
            return folder
    raise InputError(
        f"other users have taken every folder name repartee-ports-{os.getuid()}... in {shared}: "
        "set TMPDIR to a folder of your own"
    )


def any_free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
