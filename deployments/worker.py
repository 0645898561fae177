"""Worker: Prefect's worker as a container or a systemd unit runs it.

    python -m deployments.worker [--work-queue NAME]...

Told to end, Prefect's own kills the run under way, which counts as running until somebody misses it,
and holds its slot. This one lets the trainer write a checkpoint first and then says that the run has
ended; what it could not say, because it was killed itself, it says at its next start.
"""

import socket
import subprocess
import sys
import threading

from deployments.local.child import GRACE_SECONDS
from deployments.local.services import POOL
from deployments.local.supervisor import POLL_SECONDS, stop_on_signals
from deployments.local.up import end_training
from environment import quiet_environment
from models.files import PROJECT
from settings import Settings

# In a process of its own: what it imports is wanted for a moment, and the worker stays for months.
CLOSE = "from deployments.install import close_dead_runs, in_one_line; exit(in_one_line(close_dead_runs))"


def main(words: list[str]) -> int:
    quiet_environment()  # inherited by Prefect's worker and its runs
    name = f"repartee-{socket.gethostname()}"
    command = ["worker", "start", "--pool", POOL, "--type", "process", "--name", name, "--with-healthcheck"]
    return run_until_told([sys.executable, "-m", "prefect", *command, *words])


def run_until_told(command: list[str]) -> int:
    """Run what runs our flows; told to end, end the training first, and say so to the servers."""
    stop = threading.Event()
    stop_on_signals(stop)
    if status := _close_dead_runs():
        return status
    # In a session of its own: a Ctrl-C must not reach it before the run has ended.
    process = subprocess.Popen(command, start_new_session=True)
    while not stop.wait(POLL_SECONDS):
        if (ended := process.poll()) is not None:
            return ended
    try:
        end_training(Settings().root)
        _close_dead_runs()
    finally:
        _end(process)
    return 0


def _close_dead_runs() -> int:
    """The exit status; where it is not 0, a line on standard error says why."""
    closing = subprocess.run([sys.executable, "-c", CLOSE], cwd=PROJECT, start_new_session=True, check=False)
    return closing.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
