"""A vocabulary stays as long as it covers the new data, so that the ids of all texts stay."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.schemas import SPLIT_TURNS
from models.text.retention import RETENTION, Retention, samples_of
from models.text.vocabulary import VocabularyConfig, learn_vocabulary

FILMS = ["bread", "market", "oven", "seventeen", "tomorrow", "street", "river", "apple", "window", "letter"]
SUPPORT = [
    "invoice",
    "refund",
    "password",
    "delivery",
    "warehouse",
    "customer",
    "ticket",
    "shipping",
    "reset",
]
BPE = VocabularyConfig(size=400)


def clean(folder, *kinds, seed=0):
    """The output of the stage `clean` with 1,000 turns of each kind."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 9))) for words in kinds for _ in range(1000)]
    common = {"turn": 0, "speaker": "a", "group": "g", "role": "", "weight": 1.0, "split": "train"}
    rows = [{"conversation_id": f"c{i}", "text": text, **common} for i, text in enumerate(texts)]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), folder / "turns.parquet")
    return folder


def learnt(folder, turns, config=BPE, **initial):
    folder.mkdir()
    size = learn_vocabulary(folder, config, turns, **initial)
    return size, {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def films(tmp_path):
    learnt(tmp_path / "films", clean(tmp_path / "film turns", FILMS))
    return tmp_path / "films"


@pytest.mark.parametrize("role", ["start", "trunk"])
def test_new_data_of_the_same_kind_leave_every_byte_of_the_vocabulary(tmp_path, films, role):
    more = clean(tmp_path / "more", FILMS, seed=1)
    _, files = learnt(tmp_path / "kept", more, **{role: films})
    assert files == {path.name: path.read_bytes() for path in films.iterdir()}
    assert learnt(tmp_path / "anew", more)[1]["spelling.json"] != files["spelling.json"]
    compared = Retention.read(tmp_path / "kept" / RETENTION)
    assert compared.stays and "stays" in compared.text()


def test_new_data_of_another_kind_renew_the_vocabulary_and_the_record_says_why(tmp_path, films, caplog):
    caplog.set_level("INFO")
    other = clean(tmp_path / "other", FILMS, SUPPORT)
    assert learnt(tmp_path / "renewed", other, start=films) == learnt(tmp_path / "anew", other)
    compared = Retention.read(tmp_path / "renewed" / RETENTION)
    assert compared.tokens > 1.02 * compared.tokens_new
    (line,) = [record.message for record in caplog.records if "vocabulary" in record.message]
    assert "is replaced by a new one: it needs" in line


def test_what_is_no_such_vocabulary_or_larger_than_the_setting_is_not_compared(tmp_path, films):
    turns = tmp_path / "film turns"
    smaller = VocabularyConfig(size=280)
    assert learnt(tmp_path / "smaller", turns, smaller, start=films)[0] == 280
    word = VocabularyConfig(kind="word", min_count=1)
    words = learnt(tmp_path / "word", turns, word, start=films)
    assert words == learnt(tmp_path / "words", turns, word)
    (films / "spelling.json").unlink()  # as in a model that Repartee has not trained
    more = clean(tmp_path / "more", FILMS, seed=2)
    assert learnt(tmp_path / "theirs", more, start=films) == learnt(tmp_path / "anew", more)
    assert learnt(tmp_path / "of words", more, start=tmp_path / "word") == learnt(tmp_path / "again", more)
    assert not list(tmp_path.glob(f"*/{RETENTION}"))


def test_the_two_samples_are_bounded_and_share_no_text():
    texts = [f"{i} {'x' * 1000}" for i in range(10_000)]
    one, other = samples_of(texts)
    assert not set(one) & set(other)
    assert all(500_000 < sum(map(len, sample)) < 1_100_000 for sample in (one, other))
    assert samples_of(["one"]) == (["one"], [])
    assert json.loads(Retention(tokens=0, tokens_new=0).model_dump_json()) == {"tokens": 0, "tokens_new": 0}
    assert Retention(tokens=0, tokens_new=0).stays
