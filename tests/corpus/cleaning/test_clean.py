import json
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import clean_conversations, read_conversations
from corpus.cleaning.copies import Copies, part_digests, text_digests
from corpus.cleaning.split import split_of
from models.data.schemas import TURNS
from models.data.turn_balance import TurnBalance
from models.errors import InputError

PLAIN = CleanConfig()


def rows(*texts, conversation="L1", group="m0"):
    return [
        {
            "conversation_id": conversation,
            "turn": i,
            "speaker": f"u{i % 2}",
            "text": text,
            "group": group,
            "role": "",
            "weight": 1.0,
        }
        for i, text in enumerate(texts)
    ]


def cleaned(*turns, config=PLAIN):
    counts = Counter()
    parts = clean_conversations(pa.Table.from_pylist(turns, TURNS), config, counts)
    return conversations_in(parts.turns.to_pylist()), counts


def conversations_in(turns):
    found = {}
    for turn in turns:
        found.setdefault(turn["conversation_id"], []).append(turn["text"])
    return list(found.items())


def written(folder, turns, **settings):
    """What the stage writes: the conversations of each split, and the report."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(turns, TURNS), folder / "turns.parquet", row_group_size=7)
    clean_turns(out, CleanConfig(**settings), folder)
    table = pq.read_table(out / "turns.parquet").to_pylist()
    by_split = {
        split: conversations_in(turn for turn in table if turn["split"] == split)
        for split in ("train", "validation", "test")
    }
    return by_split, json.loads((out / "report.json").read_text())


GROUPS = {
    split: [f"m{i}" for i in range(99) if split_of(f"m{i}", PLAIN) == split]
    for split in ("train", "validation", "test")
}
"""Groups by the split that they belong to."""


def test_an_empty_turn_costs_its_two_exchanges_and_not_the_conversation():
    found, counts = cleaned(*rows("One.", "Two.", " <i></i> ", "Four.", "Five."))
    assert found == [("L1", ["One.", "Two."]), ("L1/2", ["Four.", "Five."])]
    assert counts["turns empty, or empty once cleaned"] == 1


def test_a_turn_without_a_neighbour_is_dropped_and_counted():
    found, counts = cleaned(*rows("One.", "", "Three.", "Four."))
    assert found == [("L1", ["Three.", "Four."])]
    assert counts["turns with no neighbour left"] == 1


def test_the_normalisation_article_empties_turns_without_a_letter():
    found, _ = cleaned(*rows("Hey, YOU!", "It's me.", "42"), config=CleanConfig(normalisation="article"))
    assert found == [("L1", ["hey , you !", "it s me ."])]


def test_personal_data_is_replaced_and_counted_before_copies_are_searched():
    turns = [
        row
        for i, mail in enumerate(["a@b.de", "c@d.de"] * 20)
        for row in rows(
            f"My mail is {mail}.", "And 10.0.0.1?", conversation=f"L{i}", group="m0" if i < 2 else f"m{i}"
        )
    ]
    turns[0]["speaker"] = "+49 170 1234567"
    found, counts = cleaned(*turns)
    assert found[0] == ("L0", ["My mail is [email].", "And [ip]?"])
    assert counts["e-mail addresses replaced"] == counts["IP addresses replaced"] == 40
    parts = clean_conversations(pa.Table.from_pylist(turns, TURNS), PLAIN, Counter())
    assert parts.turns["speaker"].to_pylist()[:3] == ["[phone]", "u1", "u0"]
    copies = Copies()
    texts = text_digests(parts.turns)
    copies.add(parts, np.zeros(40, np.int8), texts, part_digests(texts, parts.starts))
    assert copies.unique(Counter()).sum() == 1


def test_without_redaction_the_text_stays_and_the_report_has_no_new_key(tmp_path):
    texts = [(f"I am guest {i}, a@b.de.", "And 10.0.0.1?") for i in range(40)]
    turns = [row for i, said in enumerate(texts) for row in rows(*said, conversation=f"L{i}", group=f"m{i}")]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), tmp_path / "turns.parquet")
    reports = {}
    for redact in ("none", "personal"):
        (tmp_path / redact).mkdir()
        config = CleanConfig(redact=redact, validation_share=0.3, test_share=0.3)
        clean_turns(tmp_path / redact, config, tmp_path)
        reports[redact] = json.loads((tmp_path / redact / "report.json").read_text())
    unchanged = pq.read_table(tmp_path / "none" / "turns.parquet")["text"].to_pylist()
    assert unchanged == [text for said in texts for text in said]
    assert reports["none"]["counts"] == {
        "conversations read": 40,
        "turns read": 80,
        "turns with no letter left": 0,
        "turns with no neighbour left": 0,
    }
    assert "redaction" not in reports["none"] and reports["personal"]["redaction"] == "personal"


@given(st.text(min_size=1, max_size=8))
def test_a_split_depends_on_the_groups_name_alone(name):
    assert split_of(name, PLAIN) == split_of(name, PLAIN) in ("train", "validation", "test")


def test_a_share_of_the_groups_goes_to_each_split():
    sizes = Counter(split_of(f"m{i}", PLAIN) for i in range(10_000))
    assert 400 < sizes["test"] < 600
    assert 400 < sizes["validation"] < 600


def test_equal_conversations_are_in_one_split_and_the_test_split_comes_first(tmp_path):
    """The movie decides the split. Copies of a test conversation are then removed from the other splits."""
    same, single = ("Hello?", "Hello."), ("Only", "here.")
    found, report = written(
        tmp_path,
        [
            *rows(*same, conversation="L1", group=GROUPS["train"][0]),
            *rows(*same, conversation="L2", group=GROUPS["test"][0]),
            *rows(*same, conversation="L3", group=GROUPS["validation"][0]),
            *rows(*single, conversation="L4", group=GROUPS["train"][0]),
            *rows(*single, conversation="L5", group=GROUPS["train"][1]),
            *rows("Something", "else.", conversation="L6", group=GROUPS["validation"][0]),
            *rows(*same, conversation="L7", group=GROUPS["test"][1]),
        ],
    )
    names = {split: [name for name, _ in each] for split, each in found.items()}
    assert names["train"] in (["L4"], ["L5"])
    assert names["validation"] == ["L6"]
    assert names["test"] in (["L2"], ["L7"])
    assert report["counts"]["conversations that the test or validation set holds"] == 2
    assert report["counts"]["conversations that repeat another one of the same split"] == 2


def test_exchanges_said_more_than_once_are_counted(tmp_path):
    _, report = written(
        tmp_path,
        [
            *rows("Hi.", "Hi.", "Bye.", conversation="a", group=GROUPS["train"][0]),
            *rows("Hi.", "Hi.", conversation="b", group=GROUPS["test"][0]),
            *rows("Bye.", "Hi.", conversation="c", group=GROUPS["validation"][0]),
            *rows("Bye.", "Hi.", conversation="d", group=GROUPS["validation"][0]),
        ],
    )
    assert report["exchanges that occur more than once"] == 1


def test_one_conversation_is_too_few_and_the_error_gives_the_counts(tmp_path):
    with pytest.raises(
        InputError,
        match=r"validation and test splits are empty: 1 conversations were read, of which 1 are usable, in 1 groups",
    ):
        written(tmp_path, rows("Hi.", "Hi.", group=GROUPS["train"][0]))


def test_a_file_without_turns_is_refused_with_the_counts(tmp_path):
    with pytest.raises(InputError, match="splits are empty: 0 conversations were read"):
        written(tmp_path, [])


conversation_texts = st.lists(
    st.lists(st.sampled_from(["a", "b", " ", "<i></i>", "a  b", "&amp;", "1"]), min_size=1, max_size=6),
    max_size=30,
)


@given(conversation_texts)
def test_batches_of_any_size_give_the_same_parts_as_a_conversation_at_a_time(said):
    turns = [row for i, texts in enumerate(said) for row in rows(*texts, conversation=f"L{i}", group=f"m{i}")]
    whole, counts = cleaned(*turns)
    one_each = [cleaned(*rows(*texts, conversation=f"L{i}")) for i, texts in enumerate(said)]
    assert whole == [part for parts, _ in one_each for part in parts]
    assert +counts == sum((each for _, each in one_each), Counter())


@pytest.mark.parametrize("row_group", [1, 2, 5, 1000])
def test_no_batch_divides_a_conversation(tmp_path, row_group):
    turns = [row for i in range(9) for row in rows(*["Say."] * (1 + i % 4), conversation=f"L{i}")]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), tmp_path / "turns.parquet", row_group_size=row_group)
    batches = [
        table["conversation_id"].to_pylist() for table in read_conversations(tmp_path / "turns.parquet")
    ]
    assert [name for batch in batches for name in batch] == [row["conversation_id"] for row in turns]
    assert all(set(a).isdisjoint(b) for a, b in combinations(batches, 2))


def test_one_movie_can_be_split_by_conversation(tmp_path):
    turns = [row for i in range(200) for row in rows(f"Say {i}.", f"{i}!", conversation=f"L{i}")]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), tmp_path / "turns.parquet")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"--set clean.split_by=conversation"):
        clean_turns(tmp_path / "out", PLAIN, tmp_path)
    assert clean_turns(tmp_path / "out", CleanConfig(split_by="conversation"), tmp_path) == 400
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(report["conversations"].values()) == 200


def test_the_parts_of_a_conversation_are_in_one_split(tmp_path):
    """An empty turn cuts a conversation in two. Hashing each part alone could give them different splits."""
    turns = [
        row
        for i in range(60)
        for row in rows(f"Say {i}.", f"{i}!", "", f"Go on {i}.", f"No {i}.", conversation=f"L{i}")
    ]
    found, _ = written(tmp_path, turns, split_by="conversation", validation_share=0.3, test_share=0.3)
    names = {split: {name.partition("/")[0] for name, _ in each} for split, each in found.items()}
    assert sum(map(len, found.values())) == 120
    assert all(names.values())
    assert all(a.isdisjoint(b) for a, b in combinations(names.values(), 2))


def test_a_cleaning_that_deletes_the_language_is_named_as_the_cause(tmp_path):
    turns = [
        row for i in range(20) for row in rows("Привет.", "Нет, 5!", conversation=f"L{i}", group=f"m{i}")
    ]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), tmp_path / "turns.parquet")
    (tmp_path / "out").mkdir()
    with pytest.raises(
        InputError, match=r"40 of 40 turns have no letters left.*--set clean.normalisation=plain$"
    ):
        clean_turns(tmp_path / "out", CleanConfig(normalisation="article"), tmp_path)


def test_the_log_says_where_each_turn_went_and_the_numbers_add_up(tmp_path, caplog):
    same = ("Do you have any fresh rye bread today?", "Yes.")
    turns = [
        *rows(*same, conversation="L1", group=GROUPS["test"][0]),
        *rows(*same, conversation="L2", group=GROUPS["train"][0]),
        *rows("One.", "", "Three.", "Four.", conversation="L3", group=GROUPS["train"][1]),
        *rows("One?", "Two.", conversation="L4", group=GROUPS["train"][2]),
        *rows("One?", "Two.", conversation="L5", group=GROUPS["train"][2]),
        *rows("Who?", "Me.", conversation="L6", group=GROUPS["validation"][0]),
    ]
    caplog.set_level("INFO")
    written(tmp_path, turns)
    assert caplog.messages[-1] == (
        "clean: 14 turns read: 8 kept, 6 left out (2 in conversations that the test or validation set holds; 2 in "
        "conversations that repeat another one of the same split; 1 with no neighbour left; 1 empty, or empty "
        "once cleaned)"
    )


def test_without_a_cause_the_log_says_that_no_turn_was_left_out(tmp_path, caplog):
    caplog.set_level("INFO")
    groups = enumerate(GROUPS.values())
    written(
        tmp_path, [row for i, g in groups for row in rows(f"{i}?", "No.", conversation=f"{i}", group=g[0])]
    )
    assert caplog.messages[-1] == "clean: 6 turns read: 6 kept, none left out"


@settings(max_examples=20)
@given(said=conversation_texts)
def test_the_balance_of_any_corpus_adds_up(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("balance")
    texts = [*said, *([f"Do you have bread number {i} for us all today?", "No."] for i in range(40))]
    turns = [row for i, each in enumerate(texts) for row in rows(*each, conversation=f"L{i}", group=f"m{i}")]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), folder / "turns.parquet")
    out = folder / "out"
    out.mkdir()
    size = clean_turns(out, CleanConfig(validation_share=0.3, test_share=0.3), folder)
    balance = TurnBalance.of(out)
    assert (balance.turns_read, balance.turns_written, balance.turns_copied) == (len(turns), size, 0)
    assert len(turns) == size + sum(balance.removed.values())
    assert all(balance.removed.values())
