"""The commands and the script of docs/data.md, run as they stand."""

import json
import re
import sys

import pytest
from installation import ROOT, Shell

PAGE = (ROOT / "docs" / "data.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(PAGE)
pytestmark = pytest.mark.flow


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path / "var", tmp_path / "commands")
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

    damage = "echo 'L14 +++$+++ bob +++$+++ Good evening.' >> var/corpora/bakery/movie_lines.txt\n"
    refused = shell(damage + prepare)
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, message.strip())


def test_the_script_on_the_page_converts_a_csv_file_to_a_corpus_that_repartee_reads(shell, tmp_path):
    (script,) = (text for language, text in BLOCKS if language == "python")
    (tmp_path / "to_corpus.py").write_text(script)
    rows = ["conversation,group,speaker,text"]
    for group in ("thursday", "saturday", "monday"):  # test, validation, train
        rows += [
            f'1,{group},ann,"Hello,\nare you open on {group}?"',
            f"1,{group},baker,Until six on {group}.",
        ]
    (tmp_path / "support.csv").write_text("\n".join(rows))
    done = shell(
        f"{sys.executable} to_corpus.py; repartee prepare --corpus var/corpora/support --recipe quick -q "
        "--set clean.validation_share=0.15 --set clean.test_share=0.15; repartee data --json > data.json"
    )
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "data.json").read_text())
    assert data["rejected"] == {}
    assert [split["turns"] for split in data["splits"].values()] == [2, 2, 2]
    turns = [turn for sample in data["samples"] for turn in sample["turns"]]
    assert "ann: Hello, are you open on monday?" in turns
