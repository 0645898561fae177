"""Conversations that are forgotten: the stage `clean` leaves them out and counts them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.forgotten import Forgotten
from models.data.schemas import TURNS
from models.data.turn_balance import TurnBalance
from models.errors import DataRejected

HALVES = {"validation_share": 0.3, "test_share": 0.3}


def rows(conversation, speakers=("ann", "bob")):
    return [
        {
            "conversation_id": conversation,
            "turn": i,
            "speaker": speaker,
            "text": f"{conversation} {i}",
            "group": conversation,
            "role": "",
            "weight": 1.0,
        }
        for i, speaker in enumerate(speakers)
    ]


def forget(sources=("mine",), conversations=(), speakers=()):
    return Forgotten(frozenset(conversations), frozenset(speakers), tuple(sources))


def left(turns, forgotten):
    table = forgotten.without(pa.Table.from_pylist(turns, TURNS))
    return list(dict.fromkeys(table["conversation_id"].to_pylist()))


THREE = [*rows("1"), *rows('it\'s "2" €'), *rows("3", ("eve", "bob", "eve"))]


@pytest.mark.parametrize("name", ['it\'s "2" €', 'mine/it\'s "2" €'])
def test_a_conversation_is_forgotten_by_its_id_with_or_without_the_name_of_its_source(name):
    assert left(THREE, forget(conversations=[name])) == ["1", "3"]
    assert left(THREE, forget(conversations=[f"other/{name}"])) == ["1", 'it\'s "2" €', "3"]


def test_a_speaker_takes_all_conversations_with_a_turn_of_theirs():
    assert left(THREE, forget(speakers=["eve"])) == ["1", 'it\'s "2" €']
    assert left(THREE, forget(speakers=["mine/ann"])) == ["3"]
    assert left(THREE, forget(speakers=["bob"])) == []


def test_in_a_mix_an_id_counts_in_every_source_and_one_with_a_prefix_in_its_own():
    turns = [*rows("a/1"), *rows("a/2"), *rows("b/1", ("ann", "eve")), *rows("b/2")]
    both = ("a", "b")
    assert left(turns, forget(both, ["1"])) == ["a/2", "b/2"]
    assert left(turns, forget(both, ["b/1"])) == ["a/1", "a/2", "b/2"]
    assert left(turns, forget(both, speakers=["b/ann"])) == ["a/1", "a/2"]
    assert left(turns, forget(both, speakers=["eve", "a/bob"])) == ["b/2"]


def test_all_paths_of_a_reply_tree_are_forgotten_together():
    turns = [*rows("t1"), *rows("t1/path 2"), *rows("t1/path 13"), *rows("t10/path 2")]
    assert left(turns, forget(conversations=["t1"])) == ["t10/path 2"]


def test_the_digest_of_an_empty_list_is_empty_and_that_of_another_one_is_different():
    assert forget().identity == Forgotten().identity == ""
    lists = [
        forget(conversations=["1"]),
        forget(speakers=["1"]),
        forget(("other",), ["1"]),
        forget(("mine",), "12"),
    ]
    assert len({each.identity for each in lists}) == 4
    assert forget(conversations=["1", "2"]).identity == forget(conversations=["2", "1"]).identity


def cleaned(folder, turns, forgotten=None, config=None):
    out = folder / "out"
    out.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(turns, TURNS), folder / "turns.parquet", row_group_size=3)
    more = [] if forgotten is None else [forgotten]
    clean_turns(out, config or CleanConfig(**HALVES), folder, *more)
    table = pq.read_table(out / "turns.parquet")
    return table["conversation_id"].to_pylist(), json.loads((out / "report.json").read_text())


def test_what_is_forgotten_is_counted_and_the_rest_stays_as_it_was(tmp_path):
    turns = [row for i in range(40) for row in rows(f"{i}")]
    before, _ = cleaned(tmp_path, turns)
    names, report = cleaned(tmp_path, turns, forget(conversations=["3", "4", "no such id"]))
    assert names == [name for name in before if name not in ("3", "4")]
    assert report["counts"]["conversations that are forgotten"] == 2
    balance = TurnBalance.of(tmp_path / "out")
    assert balance.removed == {"in conversations that are forgotten": 4}
    assert balance.text() == "80 turns read: 76 kept, 4 left out (4 in conversations that are forgotten)"


def test_with_an_empty_list_every_byte_is_what_it_was(tmp_path):
    turns = [row for i in range(40) for row in rows(f"{i}")]
    content = []
    for forgotten in (None, forget(), forget(conversations=["no such id"])):
        cleaned(tmp_path, turns, forgotten)
        files = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()]
        content.append([(path.name, path.read_bytes()) for path in files])
    assert content[0] == content[1] == content[2]


def test_a_mix_and_its_weights_apply_to_what_is_left(tmp_path):
    turns = [row for source in "ab" for i in range(40) for row in rows(f"{source}/{i}")]
    config = MixConfig(**HALVES, weights={"a": 1, "b": 2})
    names, report = cleaned(tmp_path, turns, forget(("a", "b"), ["7", "b/8"]), config)
    assert {"a/8", "b/9"} < set(names) and not {"a/7", "b/7", "b/8"} & set(names)
    assert report["counts"]["conversations that are forgotten"] == 3
    balance = TurnBalance.of(tmp_path / "out")
    assert balance.turns_read + balance.turns_copied == balance.turns_written + sum(balance.removed.values())


def test_if_nothing_is_left_the_error_says_that_it_is_forgotten(tmp_path):
    turns = [row for i in range(40) for row in rows(f"{i}")]
    with pytest.raises(
        DataRejected, match=r"40 conversations are forgotten \(`repartee corpus forget` lists"
    ):
        cleaned(tmp_path, turns, forget(speakers=["ann"]))
