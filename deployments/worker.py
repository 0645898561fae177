"""Worker: a wrapper around Prefect's worker, for a container or a systemd unit.

    python -m deployments.worker [--work-queue NAME]...

On SIGTERM, Prefect's own worker kills the current run. Prefect still shows the run as running, and the run
occupies its concurrency slot, until it is marked as crashed because its heartbeats are missing. This wrapper
lets the trainer write a checkpoint first, and then records the end of the run. If the wrapper itself is
killed, it records the ends of its runs at its next start. If no other worker is online at its start, it also
cancels all missed runs except the newest run of each schedule.
"""

import socket
import subprocess
import sys
import threading

from deployments.local.processes import GRACE_SECONDS, STOP_SIGNALS
from deployments.local.services import WORKER_START
from deployments.local.supervisor import POLL_SECONDS
from deployments.local.up import end_runs
from environment import quiet_environment
from models.files import PROJECT
from models.processes import end_process, stop_on_signals
from settings import Settings

# These scripts run in separate processes. Otherwise the modules that they import would occupy memory for as
# long as the worker runs.
BEFORE_START = (
    "import sys; from deployments.install import prepare_worker_start, in_one_line; "
    "exit(in_one_line(lambda: prepare_worker_start(sys.argv[1])))"
)
CLOSE = "from deployments.install import close_dead_runs, in_one_line; exit(in_one_line(close_dead_runs))"


def main(arguments: list[str]) -> int:
    """Run Prefect's worker with these additional arguments, and return the exit status."""
    quiet_environment()  # Prefect's worker and its runs inherit this environment
    name = f"repartee-{socket.gethostname()}"
    command = [*WORKER_START, "--name", name, "--with-healthcheck", *arguments]
    return run_until_signalled([sys.executable, "-m", "prefect", *command], BEFORE_START, name)


def run_until_signalled(command: list[str], *before: str) -> int:
    """Run a command that executes flow runs. On a signal, end and record these runs, then end the command.

    Args:
        before: a script to run first, and its arguments.

    Returns:
        The exit status of the command, 0 after a signal, or 2 if a server cannot be used.
    """
    stop = threading.Event()
    stop_on_signals(stop, STOP_SIGNALS)
    if status := _run(*before):
        return status
    # The command has its own session, because Ctrl-C must not reach it before the training run has ended.
    process = subprocess.Popen(command, start_new_session=True)
    while not stop.wait(POLL_SECONDS):
        if (ended := process.poll()) is not None:
            return ended
    try:
        end_runs(Settings().root)
        _run(CLOSE)
    finally:
        end_process(process, GRACE_SECONDS)
    return 0


def _run(script: str, *arguments: str) -> int:
    """Run one of the scripts above, and return its exit status."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=PROJECT, start_new_session=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
