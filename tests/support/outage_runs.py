"""Commands whose server dies or hangs at a given moment."""

import json
import re
import signal

from installation import PATIENCE_S, TINY, settings
from outages import ROWS

FAULTS = {"dead": signal.SIGKILL, "hung": signal.SIGSTOP}
# The log line after which the server dies or hangs, so that the next request of the run meets the fault.
BEFORE = {
    "the training of `run`": r"train: running",
    "the gate of `run`": r"evaluate: (reused \()?[\d,]+ replies",
    "the registration of `run`": r"gate: promote",
    "the promotion of `run`": r"is stored",
}
SEEDS = {row: seed for seed, row in enumerate(ROWS, 100)}
RUN = ["run", "--recipe", "quick", "--set", "gate.promote=always", "--set", "train.log_every=1"]
RUN += settings(TINY["changes"])


def run_of(row):
    """The arguments of a run with a seed that only this row has, so that no two rows share a training run."""
    return [*RUN, "--set", f"train.seed={SEEDS[row]}"]


def ended(process, stderr=""):
    """Wait for the process; returns (exit status, the JSON that it printed, its whole standard error)."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out else {}, stderr + err


def until_said(process, wanted):
    """The process's standard error up to and including the first line that matches `wanted`."""
    stderr = ""
    for line in process.stderr:
        stderr += line
        if re.search(wanted, line):
            return stderr
    raise AssertionError(f"the process never said {wanted}: {stderr}")
