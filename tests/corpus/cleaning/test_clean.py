import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.cleaning.clean import clean_turns, count_repeated_exchanges
from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import Conversation, read_conversations
from corpus.cleaning.split import check_splits, split_conversations, split_of
from models.data.schemas import TURNS
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
    return [(c.id, c.texts) for c in read_conversations(turns, config, counts)], counts


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
    speakers = [c.speakers for c in read_conversations(turns, PLAIN, Counter())]
    assert speakers[:2] == [["[phone]", "u1"], ["u0", "u1"]]
    unique = split_conversations(list(read_conversations(turns, PLAIN, counts)), PLAIN, counts)
    assert len(unique) == 1


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


def conversation(id, group, *texts):
    n = len(texts)
    return Conversation(id, group, ["a", "b"] * n, list(texts), [""] * n, [1.0] * n, source_id=id)


def test_equal_conversations_are_in_one_split_and_the_test_split_comes_first():
    """The movie decides the split. Copies of a test conversation are then removed from the other splits."""
    groups = {
        split: next(f"m{i}" for i in range(999) if split_of(f"m{i}", PLAIN) == split)
        for split in ("train", "validation", "test")
    }
    same = ("Hello?", "Hello.")
    counts = Counter()
    conversations = split_conversations(
        [
            conversation("L1", groups["train"], *same),
            conversation("L2", groups["test"], *same),
            conversation("L3", groups["validation"], *same),
            conversation("L4", groups["train"], "Only", "here."),
            conversation("L5", groups["train"], "Only", "here."),
        ],
        PLAIN,
        counts,
    )
    assert [(c.id, split) for c, split in conversations] == [("L2", "test"), ("L4", "train")]
    assert counts["conversations that the test or validation set holds"] == 2
    assert counts["conversations that repeat an earlier one of the same split"] == 1


def test_exchanges_said_more_than_once_are_counted():
    conversations = [
        (conversation("a", "m0", "Hi.", "Hi.", "Bye."), "train"),
        (conversation("b", "m0", "Hi.", "Hi."), "train"),
    ]
    assert count_repeated_exchanges(conversations) == 1


def test_one_conversation_is_too_few_and_the_error_gives_the_counts():
    counts = Counter({"conversations read": 1})
    with pytest.raises(
        InputError,
        match=r"validation and test splits are empty: 1 conversations were read, of which 1 are usable, in 1 groups",
    ):
        check_splits([(conversation("a", "m0", "Hi.", "Hi."), "train")], counts, PLAIN)


def test_one_movie_can_be_split_by_conversation(tmp_path):
    turns = [row for i in range(200) for row in rows(f"Say {i}.", f"{i}!", conversation=f"L{i}")]
    pq.write_table(pa.Table.from_pylist(turns, TURNS), tmp_path / "turns.parquet")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"--set clean.split_by=conversation"):
        clean_turns(tmp_path / "out", PLAIN, tmp_path)
    assert clean_turns(tmp_path / "out", CleanConfig(split_by="conversation"), tmp_path) == 400
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(report["conversations"].values()) == 200


def test_the_parts_of_a_conversation_are_in_one_split():
    """An empty turn cuts a conversation in two. Hashing each part alone could give them different splits."""
    config = CleanConfig(split_by="conversation", validation_share=0.3, test_share=0.3)
    turns = [
        row
        for i in range(60)
        for row in rows(f"Say {i}.", f"{i}!", "", f"Go on {i}.", f"No {i}.", conversation=f"L{i}")
    ]
    conversations = list(read_conversations(turns, config, Counter()))
    assert len(conversations) == 120
    sides = {}
    for part, split in split_conversations(conversations, config, Counter()):
        sides.setdefault(part.source_id, set()).add(split)
    assert all(len(splits) == 1 for splits in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}


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
