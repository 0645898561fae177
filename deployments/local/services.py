"""Services: what `repartee up` keeps running, each as a command with its environment and its sign of life."""

import os
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from environment import HEARTBEAT_SECONDS
from models.errors import InputError
from models.files import PROJECT
from models.sqlite_files import address as address_of

HOST = "127.0.0.1"  # never beyond this machine: there is no login
PREFECT_PORT, MLFLOW_PORT = 4200, 5000
POOL = "repartee"


@dataclass(frozen=True)
class Service:
    """A process to keep; `health` is an address that answers 200 when it is up (none: it has no door)."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    address: str = ""
    health: str = ""


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
            **closed_to_strangers(address),
            # In memory, a restart would forget who holds a slot, and with a limit of one and
            # CANCEL_NEW nothing would ever be retrained again.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PREFECT_LOGGING_LEVEL": "WARNING",
        },
        address=address,
        health=f"{address}/api/health",
    )


def closed_to_strangers(address: str) -> dict[str, str]:
    """Without these any page that a user visits could talk to a Prefect server on this machine."""
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }


def mlflow_service(home: Path, port: int) -> Service:
    """The MLflow server: one worker and no jobs, a sixth of the memory of its defaults."""
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
        env={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        address=address,
        health=f"{address}/health",
    )


def worker_service(home: Path, prefect_api_url: str, mlflow_url: str) -> Service:
    """The worker that runs what is scheduled or triggered, on this machine."""
    return Service(
        name="worker",
        command=[
            *(sys.executable, "-m", "deployments.local.child", str(home), sys.executable, "-m", "prefect"),
            *("worker", "start", "--pool", POOL, "--type", "process"),
            *("--name", f"repartee-{socket.gethostname()}"),
        ],
        env=client_env(home, prefect_api_url, mlflow_url)
        | {
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # from a trigger to the first task in seconds
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        },
    )


def client_env(home: Path, prefect_api_url: str, mlflow_url: str) -> dict[str, str]:
    """What makes any process a client of these services, at work in this home."""
    return {
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_HOME": str(home / "prefect"),
        "MLFLOW_TRACKING_URI": mlflow_url,
        "REPARTEE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")])),
    }


def is_free(port: int) -> bool:
    """Whether nobody listens there (0: some port that the system chooses)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def take_port(wanted: int) -> tuple[int, FileLock]:
    """The wanted port, or where somebody has it another one; ours while the lock is held.

    A server listens seconds after its port is chosen. Another home's that starts in these seconds
    would choose the same, and one of the two would take the other's server for its own.
    """
    folder = _ports_folder()
    for port in (wanted, *(_any_port() for _ in range(10))):
        lock = FileLock(folder / f"{port}.lock", timeout=0)
        with suppress(Timeout):
            lock.acquire()
            if is_free(port):
                return port, lock
            lock.release()
    raise OSError(f"no port is free on {HOST}")


def _ports_folder() -> Path:
    """One that all homes of this user share; a name that another user has taken is passed over."""
    shared = Path(tempfile.gettempdir())
    for number in range(100):
        folder = shared / f"repartee-ports-{os.getuid()}{f'-{number}' if number else ''}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # a file
            continue
        except OSError as error:
            raise InputError(
                f"the folder for temporary files {shared} cannot be written ({error.strerror}): "
                "set TMPDIR to one that can"
            ) from None
        known = folder.lstat()
        if known.st_uid == os.getuid() and stat.S_ISDIR(known.st_mode):
            return folder
    raise InputError(f"others have taken every repartee-ports-{os.getuid()} in {shared}: set TMPDIR to yours")


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
