"""Up: run Prefect, MLflow and a worker for a single user on this machine, and create the deployments."""

import logging
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from console import signs_of_life
from deployments.local import prefect_database
from deployments.local.processes import STOP_SIGNALS, end_group, is_service
from deployments.local.services import (
    client_env,
    mlflow_service,
    prefect_service,
    take_port,
    worker_service,
)
from deployments.local.supervisor import Supervisor, rotate
from flows.lifecycle.locks import run_processes
from models import sqlite_files
from models.addresses import redact_addresses
from models.errors import InputError
from models.files import PROJECT
from models.processes import stop_on_signals
from models.registry import database
from models.registry.connection import ENVIRONMENT
from models.registry.pages import pages_of
from services_state import (
    MLFLOW_PORT,
    PREFECT_PORT,
    SupervisorState,
    last_state,
    running_services,
    up_lock,
)
from settings import Settings
from tasks.store.artifact import check_home

log = logging.getLogger(__name__)

DOWN_SECONDS = 60  # how long the supervisor may take to end its services, before all of them are killed
STATE_SECONDS = 10  # how long `down` waits for state.json; if it was deleted, the supervisor writes it again
TRAINING_SECONDS = 30  # how long a training run may take to write its last checkpoint


def up(say: Callable[[str], None]) -> None:
    """Run the services of this home until a signal ends them; if they are up already, show their addresses.

    Raises:
        InputError: the home, a database or a service cannot be used; the message says why.
    """
    settings = Settings()
    check_home(settings.root)
    if state := running_services(settings.root):
        starting = not state.services or any(service.starting for service in state.services.values())
        is_starting = f"the services of {settings.root} are starting; `repartee status` shows their progress"
        say(is_starting if starting else addresses_text(state))
        return
    with ExitStack() as at_end, Supervisor(settings.root) as supervisor:
        stop_on_signals(supervisor.stop, STOP_SIGNALS)
        start_s = time.monotonic()
        with signs_of_life():
            prefect_url, mlflow_url = _start_servers(supervisor, settings)
            if not supervisor.stop.is_set():
                _install(supervisor, client_env(settings.root, prefect_url, mlflow_url))
        if not supervisor.stop.is_set():
            supervisor.start(worker_service(settings.root, prefect_url, mlflow_url))
            text = addresses_text(last_state(settings.root))
            say(f"{text}\n\nUp in {time.monotonic() - start_s:.0f} s. Ctrl-C ends everything.")
        supervisor.monitor()
        log.info("ending the services")
        at_end.enter_context(signs_of_life())  # until the supervisor has ended them
        end_runs(settings.root)


def _start_servers(supervisor: Supervisor, settings: Settings) -> tuple[str, str]:
    """Start each server whose address is not configured, and return the addresses of both servers."""
    started = []
    prefect_url, mlflow_url = settings.prefect_api_url, settings.mlflow_tracking_uri
    if prefect_url is None:
        prefect = prefect_service(settings.root, _port(supervisor, "prefect", PREFECT_PORT))
        prefect_url = f"{prefect.address}/api"
        started.append(prefect)
    if mlflow_url is None:
        mlflow = mlflow_service(settings.root, _port(supervisor, "mlflow", MLFLOW_PORT))
        mlflow_url = mlflow.address
        started.append(mlflow)
    for service in started:
        log.info("%s: starting at %s", service.name, service.address)
        if service.name == "prefect":
            prefect_database.prepare(settings.root / "prefect")
        if service.name == "mlflow":
            _prepare_database(settings.root)
        supervisor.start(service)
    supervisor.await_health([service.name for service in started])
    return prefect_url, mlflow_url


def _prepare_database(home: Path) -> None:
    """Create or update MLflow's database here, because the server would report an error only in its log."""
    path, artifacts = home / "mlflow.db", home / "mlartifacts"
    try:
        if database.is_ready(path, artifacts):
            return
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"MLflow cannot use {path} ({error}); {sqlite_files.remedy(str(error))}") from error
    done = subprocess.run(
        [sys.executable, "-m", "models.registry.database", str(path), str(artifacts)],
        cwd=PROJECT,
        env={**ENVIRONMENT, **os.environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stderr.strip().splitlines():
        log.info("mlflow: %s", line)
    if done.returncode:
        raise InputError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{path} could not be created"
        )


def _port(supervisor: Supervisor, name: str, default: int) -> int:
    """The port for this server: the port that it used last, so that open browser pages still work, or another
    port if the last port is in use."""
    previous = supervisor.previous.get(name)
    address = previous.address if previous else ""
    preferred = int(address.rpartition(":")[2]) if address else default
    port, lock = take_port(preferred)
    supervisor.port_locks.append(lock)
    if port != preferred:
        log.warning("port %d is in use; %s uses port %d instead", preferred, name, port)
    return port


def _install(supervisor: Supervisor, env: dict[str, str]) -> None:
    """Run deployments/install.py in a separate process, so that its memory is freed when it ends."""
    log.info("deployments: creating the work pool, the deployments and the automations on the Prefect server")
    path = supervisor.log_path("install")
    rotate(path)
    with path.open("ab") as log_file:
        done = subprocess.run(
            [sys.executable, "-m", "deployments.install"],
            cwd=PROJECT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            check=False,
        )
    if done.returncode and not supervisor.stop.is_set():
        lines = path.read_text(errors="replace").strip().splitlines()
        raise InputError(
            f"the deployments could not be created: {lines[-1][:300] if lines else ''} (log: {path})"
        )


def end_runs(home: Path) -> None:
    """End the runs of this home, which would otherwise outlive the worker that started them.

    The runs that wait for the training run are ended first, so that none of them starts to train. The
    training run is ended last, and writes a checkpoint before it ends.
    """
    for pid in run_processes(home):
        if pid != os.getpid():
            log.info("ending the run in process %d; if it is training, it writes a checkpoint first", pid)
            _end_run(home, pid)


def _end_run(home: Path, pid: int) -> None:
    _signal(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + TRAINING_SECONDS
    while pid in run_processes(home):
        if time.monotonic() > deadline_s:
            _signal(pid, signal.SIGKILL)
            return
        time.sleep(0.1)


def down() -> str:
    """End everything that `repartee up` runs in this home, and return a line that says so.

    Raises:
        InputError: the services are up, but the process id of their supervisor is unknown.
    """
    home = Settings().root
    supervisor = _supervisor_pid(home)
    if supervisor is None:
        return f"no service of {home} is running"
    _signal(supervisor, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_SECONDS
    while (state := running_services(home)) is not None:
        if time.monotonic() > deadline_s:
            for service in state.services.values():
                if is_service(service.pid, home):
                    end_group(service.pid, grace_s=0)
            _signal(supervisor, signal.SIGKILL)
            break
        time.sleep(0.1)
    return "down: every service has ended"


def _supervisor_pid(home: Path) -> int | None:
    """The id of the process that supervises this home's services; None if no service is up.

    Raises:
        InputError: a supervisor is running, but state.json does not contain its process id.
    """
    deadline_s = time.monotonic() + STATE_SECONDS
    while (state := running_services(home)) is not None:
        if state.pid > 0:
            return state.pid
        if time.monotonic() > deadline_s:
            lock = shlex.quote(str(up_lock(home)))
            raise InputError(
                f"the services of {home} are running, but its file services/state.json does not name the "
                "process that supervises them; run the same command again, or end that process with: "
                f"fuser -k -TERM {lock}"
            )
        time.sleep(0.1)
    return None


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def addresses_text(state: SupervisorState) -> str:
    """The addresses of the servers, and what the user can do next."""
    addresses = {name: service.address for name, service in state.services.items()}
    settings = Settings()
    prefect = redact_addresses(
        addresses.get("prefect") or (settings.prefect_api_url or "").removesuffix("/api")
    )
    mlflow = pages_of(redact_addresses(addresses.get("mlflow") or settings.mlflow_tracking_uri or ""))
    return f"""
  Prefect   {prefect}
  MLflow    {mlflow}

What now?
  {prefect}/deployments   `retrain` > Run > Custom run
  {mlflow}   the runs and the registered versions
  repartee status     show the champion, the runs and the services
  repartee chat       talk with the champion"""
