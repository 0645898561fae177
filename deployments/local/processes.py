"""Processes of this machine: whether a server answers, and which process groups belong to a home."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from models.sqlite_files import address

GRACE_SECONDS = 10
"""How long a process that was asked to end may take before it is killed."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that end `repartee up` and a worker. They come from a process manager, from Ctrl-C, and from a
terminal that is closed, in this order."""


def answers(url: str, timeout_s: float = 2) -> bool:
    """Whether a server answers at this address without an error status."""
    try:
        urllib.request.urlopen(url, timeout=timeout_s).close()
        return True
    except (OSError, HTTPException):  # HTTPException: something that is no web server answers
        return False


def cpu_seconds(pid: int) -> float:
    """The processor time that a process and its descendants have used so far; 0 if the process has ended."""
    import psutil  # only `up` needs it

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        used_s = 0.0
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it has ended meanwhile
                times = each.cpu_times()
                used_s += times.user + times.system
        return used_s
    return 0.0


def end_group(group: int, grace_s: float = GRACE_SECONDS) -> None:
    """End a process group whose processes are not children of this process."""
    deadline_s = time.monotonic() + grace_s
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline_s:
            os.killpg(group, 0)  # raises once the group no longer exists
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def is_service(group: int, home: Path) -> bool:
    """Whether this process group is a service of this home. (After a group has ended, its number can be
    reused for another group.)"""
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
    """The command lines of the processes in a group; an empty list on a machine without `ps`.

    Without `ps`, a service that was left behind still ends when its pipe closes. If its port is still in use
    when the new service starts, the new service uses another port.
    """
    if shutil.which("ps") is None:
        return []
    # All processes are listed, because only Linux's `ps` can list a single session. With -w twice, `ps`
    # truncates no line, whatever the value of COLUMNS.
    command = ["ps", "-A", "-w", "-w", "-o", "pgid=", "-o", "args="]
    listing = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    rows = (line.split(maxsplit=1) for line in listing.splitlines())
    return [row[1] for row in rows if len(row) == 2 and row[0] == str(group)]
