"""Examples that are found in shards are those that are encoded anew, byte for byte."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.encoded import FEWEST_ROWS, ROW_GROUP
from models.data.examples import export_examples
from models.data.schemas import SPLIT_TURNS, SYSTEM
from models.text.config import MarkupConfig
from models.text.vocabulary import VocabularyConfig, learn_vocabulary
from tasks.store.shards import StoredShards

WORDS = ["bread", "market", "oven", "seven", "today", "street", "river", "apple", "window", "letter"]


def rows(name, rng, system=""):
    split = rng.choices(["train", "validation", "test"], [8, 1, 1])[0]
    common = {"conversation_id": name, "group": name, "role": "", "split": split}
    return [
        {
            **common,
            "turn": turn,
            "speaker": "a",
            "text": " ".join(rng.choices(WORDS, k=rng.randint(1, 3))),
            "weight": 1.0 if rng.random() < 0.8 else 0.0,  # some conversations have no reply that counts
            "system": "" if turn else system,
        }
        for turn in range(2)
    ]


@pytest.fixture(scope="module")
def conversations():
    rng = random.Random(0)
    return [rows(f"c{i}", rng) for i in range(ROW_GROUP + 12_000)]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory, conversations):
    folder = tmp_path_factory.mktemp("vocabulary")
    learn_vocabulary(folder, VocabularyConfig(size=300), cleaned(folder / "turns", conversations[:100]))
    return folder


def cleaned(folder, conversations, schema=SPLIT_TURNS):
    folder.mkdir()
    table = pa.Table.from_pylist([row for each in conversations for row in each], schema)
    pq.write_table(table, folder / "turns.parquet", row_group_size=7001)
    (folder / "report.json").write_text(json.dumps({"normalisation": "plain"}))
    return folder


def exported(turns, vocabulary, config=None, home=None):
    out = turns / ("with shards" if home else "anew")
    out.mkdir()
    export_examples(
        out, config or MarkupConfig(), turns, vocabulary, shards=StoredShards(home) if home else None
    )
    return {path.name: path.read_bytes() for path in out.iterdir()}


def shards_of(home):
    return {path.name for path in home.glob("store/shards/[!.]*")}


def test_conversations_that_are_added_and_removed_give_the_examples_of_a_run_from_nothing(
    tmp_path, conversations, vocabulary
):
    home, rng = tmp_path / "home", random.Random(1)
    exported(cleaned(tmp_path / "first", conversations), vocabulary, home=home)
    before = shards_of(home)
    assert len(before) > 10
    changed = [*conversations[:20_000], *(rows(f"new {i}", rng) for i in range(300)), *conversations[20_500:]]
    turns = cleaned(tmp_path / "second", changed)
    with_shards = exported(turns, vocabulary, home=home)
    assert with_shards == exported(turns, vocabulary)
    assert 0 < len(shards_of(home) - before) <= 2 * 3, "two chunks of each split at most"
    groups = [pq.ParquetFile(turns / "anew" / "train.parquet").metadata.row_group(i) for i in range(2)]
    assert sum(group.num_rows for group in groups) > ROW_GROUP / 2


def test_another_vocabulary_or_markup_finds_no_shard_and_a_system_text_has_its_own(
    tmp_path, conversations, vocabulary
):
    home = tmp_path / "home"
    few = conversations[:5000]
    turns = cleaned(tmp_path / "turns", few)
    exported(turns, vocabulary, home=home)
    number = len(shards_of(home))
    other = tmp_path / "other"
    other.mkdir()
    learn_vocabulary(other, VocabularyConfig(size=290), turns)
    with_system = [*few[:100], rows("told", random.Random(2), "Be brief."), *few[100:]]
    for name, folder, markup, schema in [
        ("vocabulary", other, MarkupConfig(), SPLIT_TURNS),
        ("markup", vocabulary, MarkupConfig(unit="pair", max_tokens=20), SPLIT_TURNS),
        ("system", vocabulary, MarkupConfig(), SPLIT_TURNS.append(SYSTEM)),
    ]:
        turns = cleaned(tmp_path / name, with_system, schema)
        assert exported(turns, folder, markup, home) == exported(turns, folder, markup), name
        assert len(shards_of(home)) >= number + 1, name
        number = len(shards_of(home))


def test_a_few_turns_have_no_shard(tmp_path, conversations, vocabulary):
    turns = cleaned(tmp_path / "turns", conversations[: FEWEST_ROWS // 2 - 1])
    assert exported(turns, vocabulary, home=tmp_path / "home") == exported(turns, vocabulary)
    assert not shards_of(tmp_path / "home")
