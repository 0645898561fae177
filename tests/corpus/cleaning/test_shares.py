"""The weight of a source decides which of its conversations are used, and how often training repeats them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.shares import is_in_share
from models.data.schemas import TURNS
from models.data.turn_balance import TurnBalance
from models.errors import DataRejected

SHARES = {"validation_share": 0.2, "test_share": 0.2}


def write_turns(folder, **sources):
    """Write the given number of conversations for each source, two in each group."""
    rows = [
        {
            "conversation_id": f"{source}/{i}" if len(sources) > 1 else str(i),
            "turn": turn,
            "speaker": f"u{turn}",
            "text": f"{source} {i} {turn}",
            "group": f"g{i // 2}",
            "role": "",
            "weight": 1.0,
        }
        for source, size in sources.items()
        for i in range(size)
        for turn in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows, TURNS), folder / "turns.parquet")


def cleaned(folder, config):
    """The split of each conversation by its id, and the counts of the report."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    clean_turns(out, config, folder)
    turns = pq.read_table(out / "turns.parquet").to_pylist()
    assert len({(row["conversation_id"], row["turn"]) for row in turns}) == len(turns)
    report = json.loads((out / "report.json").read_text())
    return {row["conversation_id"]: row["split"] for row in turns}, report["counts"]


def mix(split_by="group", **weights):
    return MixConfig(**SHARES, split_by=split_by, weights=weights)


def without_source(splits):
    return {name.partition("/")[2]: split for name, split in splits.items()}


@pytest.mark.parametrize("split_by", ["group", "conversation"])
def test_a_larger_share_contains_the_smaller_one_and_nothing_moves(tmp_path, split_by):
    write_turns(tmp_path, a=400, b=400)
    whole, _ = cleaned(tmp_path, mix(split_by, a=1, b=1))
    before = {}
    for weight in (0.1, 0.3, 0.5, 0.9):
        splits, counts = cleaned(tmp_path, mix(split_by, a=1, b=weight))
        of_b = [name for name in splits if name.startswith("b/")]
        assert before.items() <= splits.items() <= whole.items()
        assert abs(len(of_b) / 400 - weight) < 0.1
        assert counts["conversations outside the share of their source"] == 400 - len(of_b)
        assert counts["conversations used from b"] == len(of_b)
        assert counts["conversations used from a"] == 400
        assert {splits[name] for name in of_b} == {"train", "validation", "test"}
        before = splits


@pytest.mark.parametrize("split_by", ["group", "conversation"])
def test_a_conversation_is_in_the_same_split_whether_or_not_there_are_other_sources(tmp_path, split_by):
    write_turns(tmp_path, b=200)
    alone, _ = cleaned(tmp_path, CleanConfig(**SHARES, split_by=split_by))
    half, _ = cleaned(tmp_path, mix(split_by, b=0.5))
    assert half.items() < alone.items()
    write_turns(tmp_path, a=10, b=200)
    both, _ = cleaned(tmp_path, mix(split_by, a=1, b=1))
    assert without_source({name: both[name] for name in both if name.startswith("b/")}) == alone
    halves, _ = cleaned(tmp_path, mix(split_by, a=1, b=0.5))
    assert without_source({name: halves[name] for name in halves if name.startswith("b/")}) == half


def test_a_group_is_used_as_a_whole_or_not_at_all(tmp_path):
    write_turns(tmp_path, a=200)
    splits, _ = cleaned(tmp_path, mix(a=0.5))
    assert all((str(i) in splits) == (str(i + 1) in splits) for i in range(0, 200, 2))


def test_a_weight_of_three_and_a_half_repeats_only_conversations_of_the_training_split(tmp_path):
    write_turns(tmp_path, a=100, b=200)
    once, _ = cleaned(tmp_path, mix(a=1, b=1))
    splits, counts = cleaned(tmp_path, mix(a=1, b=3.5))
    copies = {name: split for name, split in splits.items() if name not in once}
    assert once.items() <= splits.items() and set(copies.values()) == {"train"}
    train_of_b = [name for name, split in once.items() if name.startswith("b/") and split == "train"]
    repeated = [sum(copy.startswith(f"{name}#") for copy in copies) for name in train_of_b]
    assert set(repeated) == {2, 3}
    assert abs(sum(repeated) / len(train_of_b) - 2.5) < 0.15
    assert counts["copies of training conversations, for the weight of their source"] == len(copies)


def test_the_balance_counts_the_turns_outside_a_share_and_the_copies(tmp_path):
    write_turns(tmp_path, a=100, b=200)
    splits, counts = cleaned(tmp_path, mix(a=0.5, b=2))
    balance = TurnBalance.of(tmp_path / "out")
    outside = 2 * counts["conversations outside the share of their source"]
    copied = 2 * counts["copies of training conversations, for the weight of their source"]
    assert balance.removed == {"in conversations outside the share of their source": outside}
    assert balance.turns_read + copied == balance.turns_written + outside == 600 + copied
    assert (balance.turns_written, balance.turns_copied) == (2 * len(splits), copied)
    assert balance.text() == (
        f"600 turns read: {600 - outside} kept, {outside} left out ({outside} in conversations outside the share of "
        f"their source); {copied} added as copies, for the weight of their source"
    )


def test_a_share_without_a_single_conversation_is_refused_with_the_name_of_the_source(tmp_path):
    write_turns(tmp_path, a=200, b=4)
    with pytest.raises(DataRejected, match=r"b: the weight 0\.001 leaves none of its 4 conversations"):
        cleaned(tmp_path, mix(a=1, b=0.001))


@given(st.floats(0.01, 1), st.integers(0, 30))
def test_the_share_does_not_depend_on_other_conversations(weight, size):
    assert is_in_share(f"g{size}", 1.0)
    assert not is_in_share(f"g{size}", weight) or is_in_share(f"g{size}", (1 + weight) / 2)
