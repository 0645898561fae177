"""Commands that meet a server which dies or hangs at a given moment."""

import json
import re
import signal

from installation import PATIENCE_S, TINY, settings
from outages import ROWS

FAULTS = {"dead": signal.SIGKILL, "hung": signal.SIGSTOP}
# The line after which the server goes, so that what comes next meets it.
BEFORE = {
    "the training of `run`": r"train: runs",
    "the gate of `run`": r"evaluate: (reused \()?[\d,]+ replies",
    "the registration of `run`": r"gate: promote",
    "the promotion of `run`": r"is stored",
}
SEEDS = {row: seed for seed, row in enumerate(ROWS, 100)}
RUN = ["run", "--recipe", "quick", "--set", "gate.promote=always", "--set", "train.log_every=1"]
RUN += settings(TINY["changes"])


def run_of(row):
    """The words of a run whose training no other row has."""
    return [*RUN, "--set", f"train.seed={SEEDS[row]}"]


def ended(process, stderr=""):
    """(exit status, the JSON that it printed, all of its standard error)."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out else {}, stderr + err


def until_said(process, wanted):
    """What it had said on standard error by the line that matches."""
    stderr = ""
    for line in process.stderr:
        stderr += line
        if re.search(wanted, line):
            return stderr
    raise AssertionError(f"it never said {wanted}: {stderr}")
