"""Processes of this machine: whether a server answers, and which process groups belong to a home."""

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from models.sqlite_files import address

GRACE_SECONDS = 10
"""How long a process that was asked to end may take before it is killed."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends `repartee up` and a worker: a supervisor of processes, Ctrl-C, the end of the terminal."""


def answers(url: str, timeout_s: float = 2) -> bool:
    """Whether a server answers at this address, with a status that is no error."""
    try:
        urllib.request.urlopen(url, timeout=timeout_s).close()
        return True
    except (urllib.error.URLError, OSError):
        return False


def end_group(group: int, grace_s: float = GRACE_SECONDS) -> None:
    """End a process group whose processes are no children of this process."""
    deadline_s = time.monotonic() + grace_s
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline_s:
            os.killpg(group, 0)  # raises once the group is gone
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)


def is_service(group: int, home: Path) -> bool:
    """Whether this process group is a service of this home; its number may have been given to another one."""
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
    """The command lines of the processes in a group; none on a machine without `ps`.

    Without it a service that was left behind still ends with its pipe. At worst its port is taken for another
    moment, and a free one is chosen.
    """
    if shutil.which("ps") is None:
        return []
    # Only Linux can list a single session; -w twice: the whole line, whatever COLUMNS says.
    command = ["ps", "-A", "-w", "-w", "-o", "pgid=", "-o", "args="]
    listing = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    rows = (line.split(maxsplit=1) for line in listing.splitlines())
    return [row[1] for row in rows if len(row) == 2 and row[0] == str(group)]
