"""The outcome of a run in a terminal and in a pipe."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.terminal.summary import next_steps, run_facts
from flows.lifecycle.outcome import Outcome
from flows.recipes import promote_anyway

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "repartee run --recipe quick --set train.seed=11 --set gate.promote=always"
REFUSED = Outcome(
    outcome="refused",
    reason="not better: 0.0754 bits per byte against champion v1's 0.0743 on the same test bytes",
    model="repartee",
    version=1,
    mlflow_run_id="0123456789abcdef0123456789abcdef",
    flow_run_id="f",
    seconds=123.4,
    stages=[],
    metrics={
        "test_bpb": 0.0754,
        "test_perplexity": 1.17,
        "test_accuracy": 0.952,
        "test_majority_accuracy": 0.127,
        "parameters": 865152,
    },
    champion_metrics={"test_bpb": 0.0743, "test_perplexity": 1.17, "test_accuracy": 0.951},
    champion=1,
    champion_steps=876,
    training="739 steps in 1 min 39 s, ended by train.max_minutes=1.5",
    promote_command=COMMAND,
    model_path="/data/var/store/train/0123456789abcdef/model",
    mlflow_url="http://127.0.0.1:5000/#/experiments/1/runs/0123456789abcdef?workflowType=machine_learning",
)
# This script prints the outcome in a terminal of the given width.
IN_A_TERMINAL = """
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
    sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "tests/cli/terminal")]
    from cli.terminal.summary import print_summary
    from test_summary import REFUSED
    print_summary(REFUSED)
    sys.stdout.flush()
    os._exit(0)
shown = b""
while True:
    try:
        read = os.read(terminal, 10000)
    except OSError:
        break
    if not read:
        break
    shown += read
os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
"""


def test_an_outcome_says_how_far_the_training_came_and_compares_it_with_the_champions() -> None:
    text = run_facts(REFUSED)
    assert (
        "training: 739 steps in 1 min 39 s, ended by train.max_minutes=1.5; champion v1 was trained for 876 "
        "steps\n"
    ) in text
    assert re.search(r"\n {33} +this model +v1\n", text)
    assert re.search(r"bits per byte \(lower is better\) +0\.0754 +0\.0743\n", text)


def test_a_refusal_names_the_command_that_promotes_the_model_anyway() -> None:
    assert f"  {COMMAND}   # promotes this model anyway\n" in next_steps(REFUSED)
    assert COMMAND in REFUSED.to_markdown()


def test_the_command_that_promotes_anyway_replaces_the_setting_of_the_gate() -> None:
    never = "repartee run --recipe quick --set gate.promote=never --set 'start.init=a b'"
    assert (
        promote_anyway(never)
        == "repartee run --recipe quick --set 'start.init=a b' --set gate.promote=always"
    )


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_in_a_terminal_commands_and_addresses_stand_whole_below_the_frame(columns: int) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, str(columns)],
        cwd=ROOT,
        env=env | {"TERM": "xterm"},
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.replace("\r", ""))
    frame, _, below = shown.rpartition("╯\n")
    assert f"\n  {REFUSED.mlflow_url}\n" in below and f"\n  {COMMAND} " in below
    assert all(len(line) <= columns for line in frame.splitlines())
    facts = re.sub(r"[│╭╮╰─]", " ", frame).split()
    assert [word for word in run_facts(REFUSED).split() if word not in facts] == []
