"""`repartee corpus inspect` as a user sees it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import hub_server

ROOT = Path(__file__).resolve().parents[2]
TABLE = """\
conversation,group,speaker,text
1,monday,ann,Do you have bread?
1,monday,baker,"Yes, two loaves."
2,tuesday,bob,When do you close?
2,tuesday,baker,At six.
3,friday,eve,Is my cake ready?
3,friday,baker,Yes.
"""


def inspect(*words, folder, program=("-m", "cli")):
    """The finished command; its home and its folder for temporary files are in `folder`."""
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, *program, "corpus", "inspect", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_a_data_set_of_the_hub_is_downloaded_to_a_temporary_folder(tmp_path, monkeypatch):
    with hub_server() as hub:
        hub.publish("org/talk", {"README.md": "# Talk", "data/train.csv": TABLE, "talk.jsonl": "[]"})
        monkeypatch.setenv("HF_ENDPOINT", hub.root)
        done = inspect("hf:org/talk", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "train.csv" in done.stdout and "conversations  3" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("repartee run --corpus hf:org/talk")
    assert not (tmp_path / "home").exists() and not list((tmp_path / "tmp").iterdir())


@pytest.fixture
def table(tmp_path):
    (tmp_path / "the corpus").mkdir()
    path = tmp_path / "the corpus" / "bakery.csv"
    path.write_text(TABLE)
    return path


def test_a_corpus_is_shown_with_the_command_that_trains_on_it_and_nothing_is_written(table, tmp_path):
    done = inspect(table, "--set", "clean.test_share=0.2", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "CSV, one turn per record" in done.stdout.splitlines()[1]
    assert re.search(r"\n    <start> .*\? <end>\n  > (Yes|At six)[.,].* <end>\n", done.stdout)
    command = shlex.split(done.stdout.splitlines()[-1])
    assert command[:6] == ["repartee", "run", "--corpus", str(table), "--set", "clean.test_share=0.2"]
    assert not (tmp_path / "home").exists()
    assert not list((tmp_path / "tmp").iterdir())
    assert [path.name for path in table.parent.iterdir()] == ["bakery.csv"]


def test_the_same_facts_are_one_json_object(table, tmp_path):
    done = inspect(table, "--json", folder=tmp_path)
    found = json.loads(done.stdout)
    assert (found["conversations"], found["turns"], found["replies"], found["groups"]) == (3, 6, 3, 3)
    assert found["files"][0]["format"] == "CSV, one turn per record"
    assert set(found["splits"]) == {"train", "validation", "test"}
    assert found["command"].startswith("repartee run --corpus ")
    expected = {
        "corpus", "files", "encodings", "lines_read", "conversations", "turns", "roles",
        "usable_conversations", "usable_turns", "replies", "removed", "is_exact", "groups", "largest_group", "lengths",
        "commonest_replies", "repeated_conversations", "repeated_exchanges", "splits", "problems",
        "warnings", "suggested", "samples", "as_the_model_reads_it", "command",
    }  # fmt: skip
    assert set(found) == expected


def test_personal_data_is_counted_by_kind(table, tmp_path):
    table.write_text(
        TABLE + "4,sunday,ann,Write to ann@example.org.\n4,sunday,baker,Or call +49 170 1234567.\n"
    )
    found = inspect(table, folder=tmp_path).stdout
    assert "personal data  e-mail addresses: 1, phone numbers: 1; a run replaces them" in found
    kept = inspect(table, "--set", "clean.redact=none", folder=tmp_path).stdout
    assert "personal data  not searched for (clean.redact=none)" in kept


def test_the_generated_corpus_leaves_no_temporary_files(tmp_path):
    done = inspect("sample", "--recipe", "quick", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "repartee run --corpus sample --recipe quick"
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / "home").exists()


def test_a_corpus_of_which_most_lines_cannot_be_used_is_shown_with_the_rejects(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(TABLE + "7,sunday\n" * 30)
    done = inspect(path, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bad.csv:8, bad.csv:9, bad.csv:10" in done.stdout
    assert "warning: a run would stop: bad: 30 of 36 lines cannot be used" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}/nowhere.csv"], "there is no such file or folder"),
        (["cornel"], "did you mean 'cornell'?"),
        (["{folder}/prose.txt"], "prose.txt is text, but its lines do not begin with speakers"),
        (["{folder}/the corpus", "--set", "clean.test_shar=1"], "did you mean 'clean.test_share'?"),
        (["{folder}/the corpus", "--recipe", "smal"], "did you mean 'small'?"),
    ],
)
def test_bad_input_gets_one_line_and_exit_status_2(words, message, table, tmp_path):
    (tmp_path / "prose.txt").write_text("It was a dark and stormy night.\n" * 9)
    done = inspect(*(word.format(folder=tmp_path) for word in words), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_characters_that_control_a_terminal_are_not_printed(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("conversation,speaker,text\n1,\x1b[2Jann,Hi.\n1,bob,Yes.\n")
    done = inspect(path, folder=tmp_path)
    assert "?[2Jann: Hi." in done.stdout
    assert "\x1b" not in done.stdout


def test_neither_torch_nor_prefect_is_loaded(table, tmp_path):
    program = (
        "import sys; from cli.app import app; app(standalone_mode=False);"
        "sys.exit(str({'torch', 'transformers', 'prefect', 'mlflow', 'pandas'} & sys.modules.keys() or ''))"
    )
    done = inspect(table, folder=tmp_path, program=("-c", program))
    assert done.stderr.strip() == ""


def test_the_first_facts_are_printed_before_pyarrow_is_loaded(table):
    program = (
        "import sys; from cli.inspection import examine_files, open_corpus, opening_text, Columns, DownloadConfig\n"
        "with open_corpus(DownloadConfig(corpus=sys.argv[1])) as (_, files):\n"
        "    print(opening_text(examine_files(files, Columns())))\n"
        "sys.exit(str({'pyarrow', 'numpy', 'tokenizers'} & sys.modules.keys() or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program, table], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert "bakery.csv" in done.stdout
