"""The examples of docs/corpora.md, read as they stand."""

import re
import subprocess
import sys

import pytest
from corpora_examples import BREAD, CLOSING, EXAMPLES, EXPECTED, FORMATS, PAGE, SCRIPT
from parsed import download_of, is_balanced, parsed, texts

from corpus.layout import FILES

CORNELL = ("movie_lines.txt", "movie_conversations.txt")


def test_every_example_of_the_page_is_tried():
    assert set(EXAMPLES) == {*EXPECTED, *CORNELL}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_is_read_as_the_page_says(name, tmp_path):
    columns = dict(re.findall(r"parse\.columns\.(\w+)=(\w+)", PAGE)) if name == "other_names.csv" else {}
    found, report = parsed(download_of(tmp_path / "raw", **{name: EXAMPLES[name]}), columns=columns)
    assert texts(found) == EXPECTED[name]
    assert is_balanced(report)
    assert report["rejected"] == {}


def test_the_example_of_the_cornell_layout_is_read(tmp_path):
    found, report = parsed(download_of(tmp_path / "raw", **{name: EXAMPLES[name] for name in CORNELL}))
    assert (texts(found), is_balanced(report)) == ([BREAD], True)


def test_the_script_of_the_page_writes_a_parquet_file_that_is_read(tmp_path):
    folder = download_of(tmp_path / "raw")
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder / FILES, check=True)
    found, _ = parsed(folder)
    assert texts(found) == [BREAD, CLOSING]


def test_all_examples_in_one_folder_are_read_together(tmp_path):
    names = [name for name in EXPECTED if name != "other_names.csv"]
    found, report = parsed(download_of(tmp_path / "raw", **{name: EXAMPLES[name] for name in names}))
    assert sorted(texts(found)) == sorted(each for name in names for each in EXPECTED[name])
    assert is_balanced(report)


def test_the_report_names_the_format_of_each_file_that_was_read(tmp_path):
    names = [*FORMATS, "licence.txt"]
    texts_by_name = {**EXAMPLES, "licence.txt": "You may copy this, and you may change it. " * 9}
    _, report = parsed(download_of(tmp_path / "raw", **{name: texts_by_name[name] for name in names}))
    assert report["formats"] == FORMATS


def test_a_system_text_is_no_turn_and_a_weight_of_zero_and_the_users_turns_carry_no_loss(tmp_path):
    found, report = parsed(download_of(tmp_path / "raw", **{"messages.jsonl": EXAMPLES["messages.jsonl"]}))
    weights = [[weight for _, _, weight in turns] for turns in found.values()]
    assert weights == [[0, 1], [0, 0, 0, 1]]
    assert report["turns_by_role"]["system"] == {"read": 1, "kept": 1, "joined": 0, "rejected": {}}


def test_a_turn_that_two_paths_of_a_tree_share_carries_loss_in_one_of_them(tmp_path):
    found, _ = parsed(download_of(tmp_path / "raw", **{"utterances.jsonl": EXAMPLES["utterances.jsonl"]}))
    assert [[weight for _, _, weight in turns] for turns in found.values()] == [[1, 1], [0, 1]]
