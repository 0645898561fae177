"""The Python blocks of docs/notebook.md, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "notebook.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = ("REPARTEE_", "PREFECT_", "MLFLOW_")
pytestmark = pytest.mark.flow


def test_the_blocks_of_the_page_train_a_model_that_replies_and_write_only_into_the_home(tmp_path):
    program = tmp_path / "notebook.py"
    program.write_text("\n".join(BLOCK.findall(PAGE.read_text())))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    patience = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600"}  # the machine may be busy
    (tmp_path / "user").mkdir()
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**environment, **patience, "HOME": str(tmp_path / "user")},
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr
    headline, reason, score, title, reply, examples, *_ = done.stdout.splitlines()
    assert (headline, reason) == ("Promoted: repartee v1 is the champion", "there was no champion before")
    assert re.fullmatch(r"\d+\.\d{3} bits per byte", score)
    assert title == f"repartee v1 (champion), {score}"
    assert reply.strip()
    assert re.fullmatch(r"\d+ examples for training, \d+ tokens", examples)
    assert "train: epoch" in done.stdout + done.stderr, "no log line shows the progress of the training"
    assert (tmp_path / "var" / "prefect" / "prefect.db").exists()
    assert not (tmp_path / "user" / ".prefect").exists()
