"""Child: run a command that ends when whoever started it does.

    python -m deployments.local.child HOME COMMAND...

HOME says whose it is: `up` ends what a killed one has left, and nothing of another home's. It reads a pipe
on its standard input, whose other end its parent holds: when that closes, however the parent ended, the
command's whole process group is told to end, and is ended.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_SECONDS = 10


def main() -> int:
    # The group's signals are the command's: this process stays to see it end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, preexec_fn=_default_signals)

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)  # whatever is left of the group, this process among it

    threading.Thread(target=watch, daemon=True).start()
    return process.wait()


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
