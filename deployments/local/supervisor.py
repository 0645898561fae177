"""Supervisor: the services of `repartee up`, started together, kept alive, and ended together.

HOME/services/up.lock is held by the supervisor for as long as it lives; state.json beside it says
where everything is; NAME.log is what each service says.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from deployments.local.child import GRACE_SECONDS
from deployments.local.services import Service
from models.errors import InputError
from models.files import PROJECT
from models.locks import LOCK_TEST_SECONDS
from models.sqlite_files import address
from settings import services_told, services_up

log = logging.getLogger(__name__)

FIRST_START_SECONDS = 600  # of all servers together: new databases take minutes on a busy machine
START_SECONDS = 120  # of one that is started again: only after them it can hang
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0  # before a dead one is started again
STEADY_SECONDS = 60  # up for so long, its next death waits as little as a first one
POLL_SECONDS = 0.5
LOG_BYTES = 10_000_000  # of one log; as much again lies beside it
HEALTH_SECONDS = 10  # between two looks at a service that runs
SICK_LOOKS = 6  # missed in a row: it hangs, and is started again


@dataclass
class Kept:
    """A service that is being kept."""

    service: Service
    process: subprocess.Popen[bytes]
    started_s: float
    starting: bool  # its first start: nobody is sent to its address before it answers
    wait_s: float = FIRST_WAIT_S
    again_s: float | None = None  # when it is to be started again
    looked_s: float = 0.0
    missed: int = 0


def folder(home: Path) -> Path:
    made = home / "services"
    made.mkdir(parents=True, exist_ok=True)
    return made


def answers(address: str, timeout_s: float = 2) -> bool:
    try:
        urllib.request.urlopen(address, timeout=timeout_s).close()
        return True
    except (urllib.error.URLError, OSError):
        return False


class Supervisor:
    """Keeps services; used as a context, it leaves no process behind."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stop = threading.Event()
        self.kept: dict[str, Kept] = {}
        self.before: dict[str, Any] = {}  # the services of the last supervisor here
        self.ports: list[BaseFileLock] = []  # held while their servers are up
        self._lock = FileLock(folder(home) / "up.lock", timeout=LOCK_TEST_SECONDS)

    def __enter__(self) -> "Supervisor":
        """
        Raises:
            InputError: this home is up already.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(f"{self.home} is up already; `repartee status` says where") from None
        self.before = services_told(self.home)["services"]
        self._tell()  # at once: `down` asks the process that stands there to end
        self._sweep()
        return self

    def __exit__(self, *_: object) -> None:
        for kept in reversed(self.kept.values()):
            _end(kept.process)
        self.kept.clear()
        self._tell()
        for port in self.ports:
            port.release()
        self._lock.release()

    def start(self, service: Service) -> None:
        self.kept[service.name] = Kept(service, self._spawn(service), time.monotonic(), bool(service.health))
        self._tell()

    def await_health(self, names: Sequence[str]) -> None:
        """Wait until these answer.

        Raises:
            InputError: one of them ended or did not answer in time; its log is named.
        """
        deadline_s = time.monotonic() + FIRST_START_SECONDS
        for name in names:
            kept = self.kept[name]
            while kept.process.poll() is not None or not answers(kept.service.health):
                if self.stop.is_set():
                    return
                if kept.process.poll() is not None or time.monotonic() > deadline_s:
                    raise InputError(f"{name} did not start: {self._last_line(name)} ({self.log_path(name)})")
                time.sleep(0.1)
            kept.starting = False
        self._tell()

    def keep(self) -> None:
        """Start again what dies or hangs, until told to stop."""
        while not self.stop.wait(POLL_SECONDS):
            if services_told(self.home)["pid"] != os.getpid():  # it was deleted, and `down` asks it
                self._tell()
            for name, kept in self.kept.items():
                rotate(self.log_path(name))
                self._look_after(kept)

    def log_path(self, name: str) -> Path:
        return folder(self.home) / f"{name}.log"

    def _look_after(self, kept: Kept) -> None:
        now_s = time.monotonic()
        if kept.again_s is not None:
            if now_s >= kept.again_s:
                kept.process, kept.started_s, kept.again_s = self._spawn(kept.service), now_s, None
                kept.missed, kept.looked_s = 0, now_s
                self._tell()
            return
        if kept.process.poll() is None and not self._hangs(kept, now_s):
            return
        status = kept.process.poll()
        _end(kept.process, grace_s=2)  # what it left behind would hold its port
        if now_s - kept.started_s > STEADY_SECONDS:
            kept.wait_s = FIRST_WAIT_S
        why = "hangs" if status is None else f"ended with status {status}"
        log.warning("%s %s; it is started again in %.0f s", kept.service.name, why, kept.wait_s)
        kept.again_s = now_s + kept.wait_s
        kept.wait_s = min(2 * kept.wait_s, LONGEST_WAIT_S)

    def _hangs(self, kept: Kept, now_s: float) -> bool:
        if not kept.service.health or now_s - kept.looked_s < HEALTH_SECONDS:
            return False
        kept.looked_s = now_s
        starting = now_s - kept.started_s < START_SECONDS
        kept.missed = 0 if starting or answers(kept.service.health) else kept.missed + 1
        return kept.missed >= SICK_LOOKS

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        rotate(self.log_path(service.name))
        with self.log_path(service.name).open("ab") as log_file:
            return subprocess.Popen(
                service.command,
                cwd=PROJECT,
                # The other end of the pipe is ours alone: when this process is gone, so are they.
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env={**os.environ, **service.env},
            )

    def _last_line(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing"

    def _tell(self) -> None:
        told = {
            "pid": os.getpid(),
            "services": {
                name: {
                    "pid": kept.process.pid,
                    "address": kept.service.address,
                    "health": kept.service.health,
                    "starting": kept.starting,
                }
                for name, kept in self.kept.items()
            },
        }
        path = folder(self.home) / "state.json"
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(told, indent=2) + "\n")
        partial.replace(path)

    def _sweep(self) -> None:
        """End what a killed supervisor left, where a process of that number is one of this home's."""
        for name, told in self.before.items():
            if is_service(told["pid"], self.home):
                log.warning("%s was left by a supervisor that is gone; it is ended", name)
                end_group(told["pid"])


def rotate(path: Path) -> None:
    """A log that has grown large begins again, with its last lines beside it; whoever writes it goes on."""
    try:
        if path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            os.truncate(path, 0)  # it is open for appending
    except FileNotFoundError:
        pass
    except OSError as error:  # a full disk ends no service
        log.warning("%s could not be rotated: %s", path, error.strerror)
        with suppress(OSError):
            os.truncate(path, 0)


def await_up(home: Path) -> None:
    """Where `up` is starting Prefect's server, wait for it: a second one would use the same database."""
    deadline_s = time.monotonic() + START_SECONDS
    while (state := services_up(home)) and state["services"].get("prefect", {"starting": False})["starting"]:
        if time.monotonic() > deadline_s:
            raise InputError(
                f"{home} is on its way up since {START_SECONDS} s; `repartee status` says how it is"
            )
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes], grace_s: float = GRACE_SECONDS) -> None:
    """End a service of ours with its whole group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_group(group: int, grace_s: float = GRACE_SECONDS) -> None:
    """End a group of processes that are no children of ours."""
    deadline_s = time.monotonic() + grace_s
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline_s:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def is_service(group: int, home: Path) -> bool:
    """Whether this group is a service of this home; its number may be another's by now."""
    child, database, server = (
        f"deployments.local.child {home} ",
        f" {address(home / 'mlflow.db')} ",
        f" {home}/prefect",
    )
    return group > 0 and any(
        child in command
        or database in command
        or ("deployments.local.ephemeral_server" in command and command.endswith(server))
        for command in commands_of(group)
    )


def commands_of(group: int) -> list[str]:
    """The command lines of a process group; none where nothing lists processes.

    A service that was left is then ended by its pipe; only a port may still be taken, and another is found.
    """
    if shutil.which("ps") is None:
        return []
    # To list one session only is the way of Linux alone; -w twice: whole, whatever COLUMNS says.
    asked = ["ps", "-A", "-w", "-w", "-o", "pgid=", "-o", "args="]
    listed = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False).stdout
    rows = (line.split(maxsplit=1) for line in listed.splitlines())
    return [row[1] for row in rows if len(row) == 2 and row[0] == str(group)]


def stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with suppress(ValueError):
            signal.signal(number, lambda *_: stop.set())
