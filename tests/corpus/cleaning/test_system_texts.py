"""System texts: stored with their conversations, prepared like other texts, and in each part of a conversation."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from parsed import download_of, is_balanced, parsed

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from corpus.readers.turns import Conversation, Turn
from corpus.readers.writer import ROW_GROUP, TurnsWriter, tables_of
from models.data.conversations import read_split
from models.data.schemas import SYSTEM, TURNS, has_system

HALVES = {"validation_share": 0.3, "test_share": 0.3, "split_by": "conversation"}


def message(role, content):
    return {"role": role, "content": content}


def conversation(number, *before):
    return [*before, message("user", f"Question {number}?"), message("assistant", f"Answer {number}.")]


def parse(folder, *conversations):
    """The parsed table by conversation, as the system texts of its rows, and the report."""
    lines = "".join(
        json.dumps({"id": f"c{i}", "messages": each}) + "\n" for i, each in enumerate(conversations)
    )
    download = download_of(folder / "download", **{"chat.jsonl": lines})
    _, report = parsed(download)
    return folder / "download-parsed", report


def systems(parse, column="system"):
    table = pq.read_table(parse / "turns.parquet").to_pylist()
    return {row["conversation_id"]: row[column] for row in table if row["turn"] == 0}


def test_a_system_text_belongs_to_its_conversation_and_is_no_turn(tmp_path):
    brief = message("system", "Be brief.")
    folder, report = parse(
        tmp_path,
        conversation(0),
        conversation(1, brief),
        conversation(2, message("developer", " Be kind. "), message("system", ""), brief),
        [*conversation(3), brief, *conversation(4)],
    )
    assert systems(folder) == {"c0": "", "c1": "Be brief.", "c2": "Be kind. Be brief.", "c3": ""}
    assert pq.read_table(folder / "turns.parquet")["turn"].to_pylist() == [0, 1, 0, 1, 0, 1, 0, 1, 2, 3]
    assert report["turns"] == 10 and is_balanced(report)
    assert report["turns_by_role"]["system"] == {
        "read": 5,
        "kept": 3,
        "joined": 0,
        "rejected": {
            "no text": 1,
            "a system text after the first turn, which is no turn of the dialogue": 1,
        },
    }


def test_a_system_text_beside_the_messages_or_the_exchange_is_read_too(tmp_path):
    lines = [
        {"id": "a", "system": "Be brief.", "messages": conversation(1)},
        {"id": "b", "system_prompt": "Be kind.", "prompt": "Why?", "completion": "So."},
    ]
    download = download_of(
        tmp_path / "download", **{"a.jsonl": json.dumps(lines[0]), "b.jsonl": json.dumps(lines[1])}
    )
    parsed(download)
    assert systems(tmp_path / "download-parsed") == {"a": "Be brief.", "b": "Be kind."}


def test_without_a_system_text_the_file_has_no_further_column(tmp_path):
    folder, report = parse(tmp_path, conversation(0), [*conversation(1), message("system", "Late.")])
    assert not has_system(folder / "turns.parquet")
    assert report["turns_by_role"]["system"]["kept"] == 0


def test_the_first_system_text_may_come_after_rows_that_are_already_written(tmp_path):
    turns, system = [Turn("a", "Hi.")] * 1000, Turn("system", "Be brief.", "system")
    conversations = [Conversation(f"c{i}", turns) for i in range(ROW_GROUP // 1000 + 2)]
    conversations += [Conversation("late", [system, *turns[:2]]), Conversation("last", turns[:2])]
    with TurnsWriter(tmp_path / "turns.parquet") as writer:
        for table in tables_of(
            (each, [turn for turn in each.turns if not turn.role]) for each in conversations
        ):
            writer.write(table)
    table = pq.read_table(tmp_path / "turns.parquet")
    assert table.num_rows == writer.rows
    texts = table["system"].to_pylist()
    assert [texts.index("Be brief."), texts.count(""), texts.count("Be brief.")] == [
        table.num_rows - 4,
        table.num_rows - 1,
        1,
    ]
    assert table["conversation_id"].to_pylist()[-4:] == ["late", "late", "last", "last"]
    assert [path.name for path in tmp_path.iterdir()] == ["turns.parquet"]


def clean(folder, parse, **settings):
    out = folder / "cleaned"
    out.mkdir(exist_ok=True)
    clean_turns(out, CleanConfig(**HALVES, **settings), parse)
    return out


def test_a_system_text_is_redacted_and_normalised_and_each_part_of_a_conversation_has_it(tmp_path):
    system = message("system", "Write  to <b>us</b>: help@bakery.com")
    folder, _ = parse(
        tmp_path, *(conversation(i, system) for i in range(40)), *(conversation(i) for i in range(40, 60))
    )
    table = pq.read_table(folder / "turns.parquet").to_pylist()
    divided = [
        {**table[0], "conversation_id": "long", "turn": i, "text": t}
        for i, t in enumerate(["A.", "B.", "", "C.", "D."])
    ]
    for row in divided[1:]:
        row["system"] = ""
    pq.write_table(pa.Table.from_pylist([*divided, *table], TURNS.append(SYSTEM)), folder / "turns.parquet")
    out = clean(tmp_path, folder)
    found = systems(out)
    assert found["long"] == found["long/2"] == found["c0"] == "Write to us : [email]"
    assert found["c50"] == ""
    rows = pq.read_table(out / "turns.parquet").to_pylist()
    assert {row["system"] for row in rows if row["turn"] > 0} == {""}
    report = json.loads((out / "report.json").read_text())
    assert report["counts"]["e-mail addresses replaced"] == 42, "one in each part"
    of_split = {
        each.id: each.system
        for name in ("train", "validation", "test")
        for each in read_split(out / "turns.parquet", name)
    }
    assert of_split == found


def test_a_corpus_without_system_texts_has_the_bytes_of_earlier_releases(tmp_path):
    folder, _ = parse(tmp_path, *(conversation(i) for i in range(40)))
    out = clean(tmp_path, folder)
    assert not has_system(out / "turns.parquet")
    assert pq.read_schema(out / "turns.parquet").names == [*TURNS.names, "split"]
