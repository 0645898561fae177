"""Supervisor: start the services of `repartee up` together, restart those that fail, and end them together.

HOME/services contains the state of the services (services_state.py) and the output of each of them
(NAME.log).
"""

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from deployments.local.processes import GRACE_SECONDS, answers, cpu_seconds, end_group, is_service
from deployments.local.services import Service
from models.errors import InputError
from models.files import PROJECT
from models.locks import LOCK_TEST_SECONDS
from models.processes import end_process
from services_state import (
    ServiceState,
    SupervisorState,
    last_state,
    running_services,
    services_folder,
    up_lock,
    write_state,
)

log = logging.getLogger(__name__)

FIRST_START_SECONDS = 600  # for all servers together: new databases take minutes on a busy machine
START_SECONDS = 120  # for this long after each start, a service need not answer its health checks
MIN_DELAY_S, MAX_DELAY_S = 1.0, 60.0  # the delay before a restart; doubled each time
STEADY_SECONDS = 60  # if a service has run for this long, its next delay is MIN_DELAY_S again
POLL_SECONDS = 0.5
LOG_BYTES = 10_000_000  # the size at which a log is rotated; one older log of that size is kept
HEALTH_CHECK_SECONDS = 10  # the time between two health checks of a service
MAX_MISSED_HEALTH_CHECKS = 6  # after this many in a row, a service is restarted
# A service that computes does not hang: it is slow, because the machine is busy. A restart would only add to
# the load, so such a service gets ten minutes.
BUSY_CPU_SECONDS = 0.2  # the processor time between two checks from which on a service computes
MAX_MISSED_WHILE_BUSY = 60


@dataclass
class ManagedProcess:
    """A service and the process that runs it. Fields named `..._at_s` are readings of `time.monotonic`."""

    service: Service
    process: subprocess.Popen[bytes]
    started_at_s: float
    starting: bool
    """Whether the service is starting for the first time. Clients use its address only once it answers."""
    delay_s: float = MIN_DELAY_S
    """The delay before the next restart."""
    restart_at_s: float | None = None
    """When the service is to be restarted; None while it runs."""
    checked_at_s: float = 0.0
    cpu_s: float = 0.0
    """The processor time of the service's processes at the last check."""
    missed_checks: int = 0
    """The number of health checks in a row that were missed."""
    missed_while_idle: int = 0
    """How many of them were missed although the service did not compute."""

    def state(self) -> ServiceState:
        return ServiceState(
            self.process.pid, self.service.address, self.service.health, starting=self.starting
        )


class Supervisor:
    """A context manager that runs the services of a home. When the `with` block ends, they end too."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stop = threading.Event()
        self.managed: dict[str, ManagedProcess] = {}
        self.previous: dict[str, ServiceState] = {}
        """The services that the previous supervisor of this home ran."""
        self.port_locks: list[BaseFileLock] = []
        """Locks that reserve the servers' ports while the servers run."""
        services_folder(home)
        self._lock = FileLock(up_lock(home), timeout=LOCK_TEST_SECONDS)

    def __enter__(self) -> "Supervisor":
        """
        Raises:
            InputError: the services of this home are up already.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"the services of {self.home} are running already; `repartee status` shows their addresses"
            ) from None
        self.previous = last_state(self.home).services
        self._write_state()  # at once, because `down` ends the process that is named in the state file
        self._end_orphans()
        return self

    def __exit__(self, *_: object) -> None:
        for managed in reversed(self.managed.values()):
            end_process(managed.process, GRACE_SECONDS, group=True)
        self.managed.clear()
        self._write_state()
        for lock in self.port_locks:
            lock.release()
        self._lock.release()

    def start(self, service: Service) -> None:
        """Start a service, which `monitor` restarts whenever it ends or hangs."""
        self.managed[service.name] = ManagedProcess(
            service, self._spawn(service), time.monotonic(), starting=bool(service.health)
        )
        self._write_state()

    def await_health(self, names: Sequence[str]) -> None:
        """Wait until these services answer, or until `stop` is set.

        Raises:
            InputError: a service ended or did not answer in time; the message names its log file.
        """
        deadline_s = time.monotonic() + FIRST_START_SECONDS
        for name in names:
            managed = self.managed[name]
            while managed.process.poll() is not None or not answers(managed.service.health):
                if self.stop.is_set():
                    return
                if managed.process.poll() is not None or time.monotonic() > deadline_s:
                    raise InputError(
                        f"{name} did not start: {self._last_line(name)} (log: {self.log_path(name)})"
                    )
                time.sleep(0.1)
            managed.starting = False
        self._write_state()

    def monitor(self) -> None:
        """Restart the services that end or hang, until `stop` is set."""
        while not self.stop.wait(POLL_SECONDS):
            if last_state(self.home).pid != os.getpid():  # the state file was deleted, but `down` needs it
                self._write_state()
            for name, managed in self.managed.items():
                rotate(self.log_path(name))
                self._restart_if_needed(managed)

    def log_path(self, name: str) -> Path:
        """The file with the output of a service."""
        return services_folder(self.home) / f"{name}.log"

    def _restart_if_needed(self, managed: ManagedProcess) -> None:
        now_s = time.monotonic()
        if managed.restart_at_s is not None:
            if now_s >= managed.restart_at_s:
                managed.process, managed.restart_at_s = self._spawn(managed.service), None
                managed.started_at_s = managed.checked_at_s = now_s
                managed.missed_checks = managed.missed_while_idle = 0
                self._write_state()
            return
        if managed.process.poll() is None and not self._hangs(managed, now_s):
            return
        status = managed.process.poll()
        end_process(managed.process, grace_s=2, group=True)  # the service's other processes may use its port
        if now_s - managed.started_at_s > STEADY_SECONDS:
            managed.delay_s = MIN_DELAY_S
        why = "hangs" if status is None else f"ended with status {status}"
        log.warning("%s %s; it will be restarted in %.0f s", managed.service.name, why, managed.delay_s)
        managed.restart_at_s = now_s + managed.delay_s
        managed.delay_s = min(2 * managed.delay_s, MAX_DELAY_S)

    def _hangs(self, managed: ManagedProcess, now_s: float) -> bool:
        if not managed.service.health or now_s - managed.checked_at_s < HEALTH_CHECK_SECONDS:
            return False
        managed.checked_at_s = now_s
        in_time = now_s - managed.started_at_s < START_SECONDS
        before_s, managed.cpu_s = managed.cpu_s, cpu_seconds(managed.process.pid)
        if in_time or answers(managed.service.health):
            managed.missed_checks = managed.missed_while_idle = 0
            return False
        managed.missed_checks += 1
        managed.missed_while_idle += managed.cpu_s - before_s < BUSY_CPU_SECONDS
        is_idle = managed.missed_while_idle >= MAX_MISSED_HEALTH_CHECKS
        return is_idle or managed.missed_checks >= MAX_MISSED_WHILE_BUSY

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        rotate(self.log_path(service.name))
        with self.log_path(service.name).open("ab") as log_file:
            return subprocess.Popen(
                service.command,
                cwd=PROJECT,
                # Only this process holds the other end of the pipe, so the service ends with this process.
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env={**os.environ, **service.env},
            )

    def _last_line(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it printed nothing"

    def _write_state(self) -> None:
        services = {name: managed.state() for name, managed in self.managed.items()}
        write_state(self.home, SupervisorState(os.getpid(), services))

    def _end_orphans(self) -> None:
        """End the services that a killed supervisor of this home has left behind."""
        for name, service in self.previous.items():
            if is_service(service.pid, self.home):
                log.warning("ending %s, which was left behind by a supervisor that was killed", name)
                end_group(service.pid)


def rotate(path: Path) -> None:
    """If a log is larger than LOG_BYTES, copy it to NAME.1 and empty it. Processes that write to the log need
    not reopen it."""
    try:
        if path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)  # safe, because these processes have opened the log for appending
    except FileNotFoundError:
        pass
    except OSError as error:  # a full disk must not end a service
        log.warning("%s could not be rotated: %s", path, error.strerror)
        with suppress(OSError):
            os.truncate(path, 0)


def await_up(home: Path) -> None:
    """Wait while `repartee up` starts a Prefect server, because a second server would use the same database.

    Raises:
        InputError: the server has not started in time.
    """
    deadline_s = time.monotonic() + START_SECONDS
    while (state := running_services(home)) and _is_starting(state, "prefect"):
        if time.monotonic() > deadline_s:
            raise InputError(
                f"{home}: the Prefect server has been starting for {START_SECONDS} s; "
                "`repartee status` shows the services"
            )
        time.sleep(0.1)


def _is_starting(state: SupervisorState, name: str) -> bool:
    return name in state.services and state.services[name].starting
