"""Ctrl-C during training: what is printed, and at which step the same command resumes."""

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]
# With these settings, no training run ends before the test interrupts it.
ENDLESS = (
    "train.max_minutes=null",
    "train.max_epochs=1000000",
    "train.checkpoint_seconds=0.5",
    "train.log_every=1",
)


def interrupt(home: Path, after: str) -> tuple[int, list[str]]:
    """Run a command and send it Ctrl-C when an output line matches `after`; returns its exit status and its
    output lines."""
    changes = [word for change in ("download.sample_turns=2000", *ENDLESS) for word in ("--set", change)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "run", "--recipe", "quick", *changes],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell makes its background processes ignore this signal, and their child processes then ignore it
        # too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.strip())
        if re.search(after, line):
            process.send_signal(signal.SIGINT)
            break
    lines += [line.strip() for line in process.stderr]
    return process.wait(), lines


def test_an_interrupted_training_says_what_is_kept_and_the_same_command_from_where_it_goes_on(
    tmp_path: Path,
) -> None:
    status, lines = interrupt(tmp_path, r"train: epoch 2 ")
    assert (status, lines[-1]) == (130, "repartee: interrupted; run the same command again to continue")
    checkpoint = re.search(r"[Tt]he checkpoint at step ([\d,]+) is kept", "\n".join(lines))
    assert checkpoint, lines
    status, again = interrupt(tmp_path, "train: resuming at step")
    assert status == 130, again
    assert f"train: resuming at step {checkpoint[1].replace(',', '')}" in again
    assert not [line for line in again if re.search(r"train: epoch [12] ", line)], again
