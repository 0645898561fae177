"""Up: Prefect, MLflow, a worker and the deployments for one person, on this machine alone."""

import logging
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deployments.local import prefect_database
from deployments.local.services import (
    MLFLOW_PORT,
    PREFECT_PORT,
    client_env,
    mlflow_service,
    prefect_service,
    take_port,
    worker_service,
)
from deployments.local.supervisor import Supervisor, end_group, is_service, rotate, stop_on_signals
from flows.lifecycle.locks import holder_pid
from models import sqlite_files
from models.addresses import bare
from models.errors import InputError
from models.files import PROJECT
from models.registry import database
from models.registry.runs import ENVIRONMENT
from settings import Settings, services_told, services_up
from tasks.store.artifact import check_home

log = logging.getLogger(__name__)

DOWN_SECONDS = 60
TELL_SECONDS = 10  # where state.json is gone, the supervisor soon writes it again


def up(say: Callable[[str], None]) -> None:
    """Run until told to stop. Already up: say where, and end."""
    here = Settings()
    check_home(here.root)
    if state := services_up(here.root):
        starting = not state["services"] or any(each["starting"] for each in state["services"].values())
        say(f"{here.root} is on its way up; ask `repartee status`" if starting else told(state))
        return
    with Supervisor(here.root) as supervisor:
        stop_on_signals(supervisor.stop)
        began_s = time.monotonic()
        prefect_url, mlflow_url = _start_servers(supervisor, here)
        if not supervisor.stop.is_set():
            _install(supervisor, client_env(here.root, prefect_url, mlflow_url))
        if not supervisor.stop.is_set():
            supervisor.start(worker_service(here.root, prefect_url, mlflow_url))
            state = services_told(here.root)
            say(f"{told(state)}\n\nUp in {time.monotonic() - began_s:.0f} s. Ctrl-C ends everything.")
        supervisor.keep()
        log.info("ending")
        end_training(here.root)


def _start_servers(supervisor: Supervisor, here: Settings) -> tuple[str, str]:
    """(Prefect's API, MLflow's address): of those that are configured, or started here."""
    started = []
    prefect_url, mlflow_url = here.prefect_api_url, here.mlflow_tracking_uri
    if prefect_url is None:
        prefect = prefect_service(here.root, _port(supervisor, "prefect", PREFECT_PORT))
        prefect_url = f"{prefect.address}/api"
        started.append(prefect)
    if mlflow_url is None:
        mlflow = mlflow_service(here.root, _port(supervisor, "mlflow", MLFLOW_PORT))
        mlflow_url = mlflow.address
        started.append(mlflow)
    for service in started:
        log.info("%s: starts at %s", service.name, service.address)
        if service.name == "prefect":
            prefect_database.prepare(here.root / "prefect")
        if service.name == "mlflow":
            _prepare_database(here.root)
        supervisor.start(service)
    supervisor.await_health([service.name for service in started])
    return prefect_url, mlflow_url


def _prepare_database(home: Path) -> None:
    """MLflow's database is whole and knows where its home is; the server would end over it in its log."""
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
        raise InputError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"no {path}")


def _port(supervisor: Supervisor, name: str, usual: int) -> int:
    """The one it had last time, so that open pages and running flows find it again; or a free one."""
    address = supervisor.before.get(name, {}).get("address", "")
    wanted = int(address.rpartition(":")[2]) if address else usual
    port, lock = take_port(wanted)
    supervisor.ports.append(lock)
    if port != wanted:
        log.warning("port %d is in use; %s takes %d", wanted, name, port)
    return port


def _install(supervisor: Supervisor, env: dict[str, str]) -> None:
    """Deployments, automations and what a pause left behind; in a process of its own, whose memory goes."""
    log.info("deployments: the work pool, prefect.yaml and the automations")
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
        raise InputError(f"the deployments could not be made: {lines[-1][:300] if lines else ''} ({path})")


def end_training(home: Path) -> None:
    """A training that the worker began would outlive it; its trainer writes a checkpoint first."""
    pid = holder_pid(home)
    if pid is None or pid == os.getpid():
        return
    log.info("the training of process %d is told to end", pid)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline_s = time.monotonic() + 30
    while holder_pid(home) == pid and time.monotonic() < deadline_s:
        time.sleep(0.1)
    if holder_pid(home) == pid:
        os.kill(pid, signal.SIGKILL)


def down() -> str:
    """End everything that `up` started here; what to say of it."""
    home = Settings().root
    supervisor = _supervisor(home)
    if supervisor is None:
        return f"nothing is up in {home}"
    _signal(supervisor, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_SECONDS
    while (state := services_up(home)) is not None:
        if time.monotonic() > deadline_s:
            for service in state["services"].values():
                if is_service(service["pid"], home):
                    end_group(service["pid"], grace_s=0)
            _signal(supervisor, signal.SIGKILL)
            break
        time.sleep(0.1)
    return "down: every service has ended"


def _supervisor(home: Path) -> int | None:
    """The process that keeps the services of this home; none: nothing is up.

    Raises:
        InputError: one does, and does not say which it is.
    """
    deadline_s = time.monotonic() + TELL_SECONDS
    while (state := services_up(home)) is not None:
        if state["pid"] > 0:
            return int(state["pid"])
        if time.monotonic() > deadline_s:
            lock = home / "services" / "up.lock"
            raise InputError(
                f"{home} is up, and services/state.json, which says in which process, is gone; "
                f"give the same command again, or: fuser -k -TERM {shlex.quote(str(lock))}"
            )
        time.sleep(0.1)
    return None


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def told(state: dict[str, Any]) -> str:
    """Where everything is, and what to do first."""
    addresses = {name: service["address"] for name, service in state["services"].items()}
    prefect = bare(addresses.get("prefect") or (Settings().prefect_api_url or "").removesuffix("/api"))
    mlflow = bare(addresses.get("mlflow") or Settings().mlflow_tracking_uri or "")
    return f"""
  Prefect   {prefect}
  MLflow    {mlflow}

What now?
  {prefect}/deployments   `retrain` > Run > Custom run
  {mlflow}/#/models   the versions, the champion among them
  repartee status     what is going on
  repartee chat       talk with the champion"""
