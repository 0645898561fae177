"""Child: run a command, and end the command when the parent of this process ends.

    python -m deployments.local.child HOME COMMAND...

The argument HOME marks the command as belonging to that home. By this mark, `repartee up` recognises the
processes that a killed supervisor of the same home has left behind, and ends only these. Standard input is a
pipe, whose other end belongs to the parent, so the pipe closes when the parent ends, for whatever reason. The
whole process group of the command is then asked to end, and is killed if it does not.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

from deployments.local.processes import GRACE_SECONDS
from models.processes import when_parent_ends


def main() -> int:
    """Run the command and return its exit status."""
    # Signals to the group are meant for the command. This process ignores them and waits until the command
    # ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, preexec_fn=_default_signals)

    def end() -> None:
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        os.killpg(0, signal.SIGKILL)  # whatever is left of the group, this process included

    when_parent_ends(end)
    return process.wait()


def _default_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
