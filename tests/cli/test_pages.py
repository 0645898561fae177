"""docs/cli.md matches the help texts that the command prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.pages import cli_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_the_command_is_made_from_the_command_as_it_is():
    assert (ROOT / "docs" / "cli.md").read_text() == cli_page()


@pytest.mark.parametrize("words", [[], ["run"], ["corpus", "make"]])
def test_each_help_text_stands_in_the_page_as_the_command_prints_it(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--help"],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(tmp_path), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    printed = done.stdout.replace("python -m cli", "repartee", 1).strip()
    assert f"```\n{printed}\n```\n" in cli_page()


def test_a_narrow_terminal_changes_nothing_of_the_page(monkeypatch):
    wide = cli_page()
    monkeypatch.setenv("COLUMNS", "40")
    assert cli_page() == wide
