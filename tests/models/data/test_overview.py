"""The overview of prepared data, which lets a user check the data behind a model."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_data import write_outputs

from cli.terminal.tables import data_text
from models.data.overview import (
    SAMPLES,
    overview,
    reject_rows,
    sample_rows,
    split_rows,
    to_markdown,
)
from models.data.schemas import LEAKS
from models.data.turn_balance import BALANCE, TurnBalance
from models.markdown import markdown_table


@pytest.fixture
def data(tmp_path):
    conversations = [
        ("a", "train", ["Hello.", "Hi | there."]),
        ("b", "train", [f"turn {i}" for i in range(10)]),
        ("c", "validation", ["Who?", "Me."]),
        ("d", "test", ["Why?", "x" * 1000]),
    ]
    return overview(*write_outputs(tmp_path, conversations, {"no such line": 3}))


def test_each_split_has_its_counts_and_the_lengths_of_its_examples(data):
    train, validation, test = split_rows(data)
    assert (train["split"], train["conversations"], train["turns"]) == ("train", 2, 12)
    assert (train["examples"], train["tokens"], train["characters"]) == (2, 36, 6 + 11 + 60)
    assert (train["tokens, median"], train["tokens, longest"]) == (30, 30)
    assert validation["turns"] == test["turns"] == 2


def test_rejects_are_listed_by_cause_and_what_did_not_occur_is_left_out(data):
    assert reject_rows(data) == [
        {"stage": "parse", "cause": "no such line", "count": 3},
        {"stage": "clean", "cause": "turns read", "count": 9},
    ]


def test_the_first_leaks_are_shown_with_their_twins(tmp_path):
    outputs = write_outputs(tmp_path, [("a", "train", ["Hello.", "Hi."])])
    assert overview(*outputs).leaks == []
    own = {"conversation_id": "a", "turn": 1, "split": "train", "text": "I saw him | there."}
    twin = {
        "twin_conversation_id": "t",
        "twin_turn": 3,
        "twin_split": "test",
        "twin_text": "I saw her there.",
    }
    rows = [{**own, **twin, "cause": "near copy", "similarity": 5 / 9}] * 12
    pq.write_table(pa.Table.from_pylist(rows, LEAKS), outputs[1] / "leaks.parquet")
    data = overview(*outputs)
    assert len(data.leaks) == 10
    cells = [r"I saw him \| there.<br>(train, a)", "I saw her there.<br>(test, t)"]
    assert f"| near copy | 0.5600 | {cells[0]} | {cells[1]} |" in to_markdown(data)


def test_a_long_conversation_and_a_long_turn_are_shortened_and_say_so(data):
    texts = {row["conversation"]: row["text"] for row in sample_rows(data)}
    assert texts["b"].splitlines()[-1] == "... and 2 more turns"
    assert texts["d"].endswith("x...") and len(texts["d"]) < 400


def test_the_sample_is_the_same_for_the_same_conversations_in_any_order(tmp_path):
    conversations = [(f"c{i}", "train", ["Hello.", "Hi."]) for i in range(50)]
    samples = []
    for name, order in (("one", conversations), ("two", conversations[::-1])):
        (tmp_path / name).mkdir()
        data = overview(*write_outputs(tmp_path / name, order))
        samples.append({sample.id for sample in data.samples})
    assert samples[0] == samples[1]
    assert len(samples[0]) == SAMPLES


def test_an_empty_split_has_zeros(tmp_path):
    data = overview(*write_outputs(tmp_path, [("a", "train", ["Hello.", "Hi."])]))
    test = split_rows(data)[2]
    assert (test["conversations"], test["examples"], test["tokens, longest"]) == (0, 0, 0)


def test_a_cell_with_a_bar_or_a_line_break_does_not_break_the_table(data):
    table = markdown_table(sample_rows(data))
    assert "Hi \\| there." in table
    assert len(table.splitlines()) == 2 + 4
    assert "## Ten conversations" in to_markdown(data)


def test_the_dashboard_shows_the_counts_with_a_column_for_each_split_and_no_line_break_in_a_sentence(data):
    lines = to_markdown(data).splitlines()
    assert "| split | train | validation | test |" in lines
    assert "| turns | 12 | 2 | 2 |" in lines
    assert all(line.endswith((".", "|")) or line.startswith("#") for line in lines if line)


def test_the_overview_says_where_the_turns_went_unless_an_earlier_release_prepared_the_data(tmp_path):
    outputs = write_outputs(tmp_path, [("a", "train", ["Hello.", "Hi."])])
    assert overview(*outputs).balance is None
    assert "100 lines were read.\n" in to_markdown(overview(*outputs))
    balance = TurnBalance(turns_read=9, turns_written=2, turns_copied=0, removed={"empty": 3, "copied": 4})
    (outputs[1] / "logs").mkdir()
    balance.write(outputs[1] / BALANCE)
    data = overview(*outputs)
    line = "9 turns read: 2 kept, 7 left out (4 copied; 3 empty)"
    assert f"100 lines were read. In the stage `clean`: {line}.\n" in to_markdown(data)
    assert f"\nclean: {line}\n" in data_text("abc1", data)
