from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data import batches
from models.data.batches import NO_LOSS, Examples, bucket, collate, epoch_batches
from models.data.schemas import EXAMPLES
from models.network.networks import next_ids
from models.text.tokenizer import END, PAD, START


def row(ids: list[int], flags: list[int]) -> batches.Row:
    return np.array(ids, np.int64), np.array(flags, bool)


def table(rows: list[tuple[list[int], list[int]]]) -> pa.Table:
    rest = {"conversation_id": "c", "turn": 1, "group": "g", "split": "train", "replies": 1}
    more = {"reply_bytes": 1, "spelled_nats": 0.0}
    records = [{"ids": ids, "is_reply": [f == 1 for f in flags], **rest, **more} for ids, flags in rows]
    return pa.Table.from_pylist(records, EXAMPLES)


SHORT = ([START, 5, END, 6, END], [0, 0, 0, 1, 1])
LONG = ([START, 7, 8, END, 9, 10, 11, END], [0, 0, 0, 0, 1, 1, 1, 1])


def num_positions(lengths: np.ndarray, rows: np.ndarray) -> int:
    """The padded size of a batch, in which each side is padded separately."""
    return int(len(rows) * lengths.reshape(len(lengths), -1)[rows].max(axis=0).sum())


def test_a_split_comes_back_row_by_row_from_its_file(tmp_path: Path) -> None:
    pq.write_table(table([SHORT, LONG]), tmp_path / "train.parquet")
    examples = Examples(batches.read_examples(tmp_path, "train"))
    assert len(examples) == 2
    assert [examples.row(i)[0].tolist() for i in range(2)] == [SHORT[0], LONG[0]]
    assert [examples.row(i)[1].astype(int).tolist() for i in range(2)] == [SHORT[1], LONG[1]]
    assert examples.lengths.tolist() == [5, 8]
    assert examples.sides(has_encoder=False).tolist() == [[5], [8]]
    assert examples.sides(has_encoder=True).tolist() == [[3, 2], [4, 4]]


def test_many_row_groups_and_none_at_all_are_read_alike() -> None:
    both = pa.concat_tables([table([SHORT]), table([LONG])])
    assert Examples(both).row(1)[0].tolist() == LONG[0]
    empty = Examples(table([]))
    assert len(empty) == 0
    assert bucket(empty.lengths, 100) == []
    assert bucket(empty.sides(has_encoder=True), 100) == []


def test_the_target_at_a_place_is_the_reply_id_that_comes_next() -> None:
    batch = collate([row(*SHORT), row(*LONG)], has_encoder=False)
    assert batch.inputs_BT.tolist() == [[START, 5, END, 6, PAD, PAD, PAD], LONG[0][:-1]]
    none = NO_LOSS
    assert batch.targets_BT.tolist() == [
        [none, none, 6, END, none, none, none],
        [none, none, none, 9, 10, 11, END],
    ]
    assert batch.context_BS is None


def test_the_encoder_reads_the_context_and_the_decoder_start_and_the_reply() -> None:
    batch = collate([row(*SHORT), row(*LONG)], has_encoder=True)
    assert batch.context_BS is not None
    assert batch.context_mask_BS is not None
    assert batch.context_BS.tolist() == [[START, 5, END, PAD], [START, 7, 8, END]]
    assert batch.context_mask_BS.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.inputs_BT.tolist() == [[START, 6, PAD, PAD], [START, 9, 10, 11]]
    assert batch.targets_BT.tolist() == [[6, END, NO_LOSS, NO_LOSS], [9, 10, 11, END]]


@pytest.mark.parametrize("has_encoder", [False, True])
def test_rows_without_a_reply_make_a_batch_without_a_target(has_encoder: bool) -> None:
    batch = collate([row([START, 5, END], [0, 0, 0])], has_encoder=has_encoder)
    assert batch.inputs_BT.shape[0] == 1
    assert bool((batch.targets_BT == NO_LOSS).all())
    assert batch.inputs_BT.shape == batch.targets_BT.shape


def test_inputs_and_targets_have_one_shape_even_where_only_one_row_has_a_reply() -> None:
    batch = collate([row([START, 5, END], [0, 0, 0]), row(*SHORT)], has_encoder=True)
    assert batch.inputs_BT.shape == batch.targets_BT.shape == torch.Size([2, 2])


lengths_of_one_side = st.lists(st.integers(1, 60), min_size=1, max_size=80).map(np.array)
lengths_of_two_sides = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=80
).map(np.array)


@given(st.one_of(lengths_of_one_side, lengths_of_two_sides), st.integers(1, 300), st.integers(0, 3))
def test_each_row_is_in_one_batch_and_only_a_single_row_is_larger_than_a_batch(
    lengths: np.ndarray, batch_tokens: int, epoch: int
) -> None:
    found_batches = epoch_batches(lengths, batch_tokens, seed=0, epoch=epoch)
    assert sorted(np.concatenate(found_batches).tolist()) == list(range(len(lengths)))
    assert all(num_positions(lengths, rows) <= batch_tokens or len(rows) == 1 for rows in found_batches)
    assert len(found_batches) == len(bucket(lengths, batch_tokens))


def test_an_epochs_order_comes_from_seed_and_epoch_alone() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 500)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in epoch_batches(lengths, 256, seed=seed, epoch=epoch)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert {frozenset(rows) for rows in order(0, 1)} != {frozenset(rows) for rows in order(0, 2)}


def test_at_least_97_percent_of_a_batch_is_no_padding() -> None:
    rng = np.random.default_rng(0)
    turns = np.clip(rng.lognormal(2.2, 0.85, (20_000, 3)), 1, 40).astype(int)
    lengths = 1 + (turns + 1).sum(axis=1)
    found_batches = bucket(lengths, 4096, rng)
    assert lengths.sum() / sum(num_positions(lengths, rows) for rows in found_batches) > 0.97


@pytest.mark.parametrize(("rows", "share"), [(60_000, 0.97), (5_000, 0.85)])
def test_of_pairs_little_is_padding_on_either_side(rows: int, share: float) -> None:
    rng = np.random.default_rng(0)
    sides = 2 + np.clip(rng.lognormal(2.0, 0.7, (rows, 2)), 1, 18).astype(int)
    found_batches = bucket(sides, 4096, rng)
    assert sides.sum() / sum(num_positions(sides, batch) for batch in found_batches) > share


def test_what_follows_goes_by_a_rows_length_and_id_zero_may_be_text() -> None:
    """Padding is recognised by the length of a row, because the padding id may also occur as a token."""
    batch = collate([row([7, 0, 0, 8], [0, 0, 0, 1]), row(*LONG)], has_encoder=False)
    assert next_ids(batch).tolist()[0] == [0, 0, 8, *[NO_LOSS] * 4]
