"""The overview of prepared data: what people see of it before they trust a model."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.overview import (
    SAMPLES,
    markdown_table,
    overview,
    reject_rows,
    sample_rows,
    split_rows,
    to_markdown,
)
from models.data.schemas import EXAMPLES, SPLIT_TURNS, SPLITS


def write_outputs(folder, conversations, rejected=None):
    """The outputs of parse, clean and export: conversations as (id, split, texts), one example of each."""
    outputs = [folder / name for name in ("parse", "clean", "export")]
    for output in outputs:
        output.mkdir()
    parse, clean, export = outputs
    (parse / "report.json").write_text(json.dumps({"lines_read": 100, "rejected": rejected or {}}))
    counts = {"turns read": 9, "turns with no letter left": 0}
    (clean / "report.json").write_text(json.dumps({"counts": counts}))
    rows = [
        {
            "conversation_id": name,
            "turn": i,
            "speaker": f"u{i % 2}",
            "text": text,
            "group": "m",
            "split": split,
        }
        for name, split, texts in conversations
        for i, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), clean / "turns.parquet")
    for split in SPLITS:
        examples = [
            {
                "ids": list(range(3 * len(texts))),
                "is_reply": [True] * 3 * len(texts),
                "conversation_id": name,
                "turn": 1,
                "group": "m",
                "split": split,
                "replies": 1,
                "reply_bytes": 5,
                "spelled_nats": 0.0,
            }
            for name, own_split, texts in conversations
            if own_split == split
        ]
        pq.write_table(pa.Table.from_pylist(examples, EXAMPLES), export / f"{split}.parquet")
    return outputs


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
    assert (train["median"], train["longest"]) == (30, 30)
    assert validation["turns"] == test["turns"] == 2


def test_rejects_are_listed_by_cause_and_what_did_not_occur_is_left_out(data):
    assert reject_rows(data) == [
        {"stage": "parse", "cause": "no such line", "count": 3},
        {"stage": "clean", "cause": "turns read", "count": 9},
    ]


def test_a_long_conversation_and_a_long_turn_are_shortened_and_say_so(data):
    texts = {row["conversation"]: row["text"] for row in sample_rows(data)}
    assert texts["b"].splitlines()[-1] == "... and 2 more turns"
    assert texts["d"].endswith("x...") and len(texts["d"]) < 400


def test_the_sample_is_the_same_for_the_same_conversations_in_any_order(tmp_path):
    conversations = [(f"c{i}", "train", ["Hello.", "Hi."]) for i in range(50)]
    samples = []
    for name, order in (("one", conversations), ("two", conversations[::-1])):
        (tmp_path / name).mkdir()
        made = overview(*write_outputs(tmp_path / name, order))
        samples.append({sample.id for sample in made.samples})
    assert samples[0] == samples[1]
    assert len(samples[0]) == SAMPLES


def test_an_empty_split_has_zeros(tmp_path):
    made = overview(*write_outputs(tmp_path, [("a", "train", ["Hello.", "Hi."])]))
    test = split_rows(made)[2]
    assert (test["conversations"], test["examples"], test["longest"]) == (0, 0, 0)


def test_a_cell_with_a_bar_or_a_line_break_does_not_break_the_table(data):
    table = markdown_table(sample_rows(data))
    assert "Hi \\| there." in table
    assert len(table.splitlines()) == 2 + 4
    assert "## Ten conversations" in to_markdown(data)
