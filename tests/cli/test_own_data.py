"""The commands of docs/data.md, run as they stand."""

import re

import pytest
from installation import ROOT, Shell

PAGE = (ROOT / "docs" / "data.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE)
pytestmark = pytest.mark.flow


@pytest.fixture
def shell(tmp_path, new_home):
    shell = Shell(new_home(tmp_path / "var"), tmp_path / "commands")
    # The machine may be busy.
    patience = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600"}
    return lambda line: shell.shell(f"set -e; cd {tmp_path}\n{line}", **patience)


def test_the_session_on_the_page_prepares_six_conversations_and_trains_a_model_that_replies(shell):
    write, prepare, train = (text for language, text in BLOCKS if language == "bash")
    shown, message = (text for language, text in BLOCKS if language == "")
    prepared = shell(write + prepare)
    assert prepared.returncode == 0, prepared.stderr
    _, counts = shown.removesuffix("...\n").split("\n", 1)  # the first line has a fingerprint of the code
    assert counts in prepared.stdout

    trained = shell(train)
    assert trained.returncode == 0, trained.stderr
    assert "Promoted: repartee v1 is the champion" in trained.stdout
    assert trained.stdout.splitlines()[-1].strip(), "the chat prints no reply"

    damage = "echo '7,sunday,Good evening.' >> var/corpora/bakery.csv\n"
    refused = shell(damage + prepare)
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, message.strip())


def test_the_session_about_data_that_change_prints_the_difference_and_then_accepts_them(shell):
    change, accept = (text for language, text in BLOCKS if language == "sh")
    (shown,) = (text.splitlines() for language, text in BLOCKS if language == "text")
    rejected = shell("mkdir -p var/corpora\n" + change)
    assert rejected.returncode == 2, rejected.stderr
    printed = re.sub("accepted on [0-9-]+", "accepted on 2026-11-28", rejected.stderr).splitlines()
    assert [line for line in printed if line in shown] == shown
    accepted = shell(accept)
    assert accepted.returncode == 0, accepted.stderr
