"""A conversation that is added, removed or changed makes other chunks only where it is."""

import random

import pyarrow as pa
import pytest

from models.data import chunks as module
from models.data.chunks import chunks, digest_of
from models.data.schemas import TURNS


def turns(sizes: dict[str, int]) -> pa.Table:
    """Conversations with so many turns each."""
    rows = [
        {"conversation_id": name, "turn": i, "speaker": "a", "text": f"{name} {i}", "group": "g", "role": ""}
        for name, size in sizes.items()
        for i in range(size)
    ]
    return pa.Table.from_pylist([{**row, "weight": 1.0} for row in rows], TURNS)


def in_pieces(table: pa.Table, rng: random.Random) -> list[pa.Table]:
    """The table in pieces that may end inside a conversation, as the row groups of a file may."""
    edges = sorted(rng.sample(range(1, table.num_rows), 5))
    return [table.slice(a, b - a) for a, b in zip([0, *edges], [*edges, table.num_rows], strict=True)]


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    return {f"c{i}": 2 + i % 7 for i in range(2000)}


def test_chunks_are_whole_conversations_in_their_order_however_the_table_is_divided(sizes):
    table = turns(sizes)
    whole = list(chunks([table], 50))
    assert pa.concat_tables(whole).combine_chunks().equals(table)
    assert 20 < len(whole) < 80
    assert all(chunk["turn"][0].as_py() == 0 for chunk in whole)
    for seed in range(20):
        found = list(chunks(in_pieces(table, random.Random(seed)), 50))
        assert [digest_of(each) for each in found] == [digest_of(each) for each in whole]


def test_a_change_in_one_place_changes_at_most_two_chunks(sizes):
    before = {digest_of(chunk) for chunk in chunks([turns(sizes)], 50)}
    rng = random.Random(0)
    for number in range(20):
        changed = list(sizes.items())
        position = rng.randrange(len(changed))
        if number % 2:
            del changed[position]
        else:
            changed.insert(position, (f"new {number}", 3))
        after = {digest_of(chunk) for chunk in chunks([turns(dict(changed))], 50)}
        assert 1 <= len(after - before) <= 2


def test_without_an_id_that_begins_a_chunk_the_rows_limit_its_size(sizes, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 1000)
    table = turns(sizes)
    found = list(chunks([table.slice(i, 100) for i in range(0, table.num_rows, 100)], 10**9))
    assert pa.concat_tables(found).combine_chunks().equals(table)
    assert max(chunk.num_rows for chunk in found) < 2000


def test_the_digest_is_that_of_the_values_and_not_of_the_pieces_in_memory(sizes):
    table = turns(sizes)
    assert digest_of(table.slice(10, 50).combine_chunks()) == digest_of(
        turns(sizes).slice(10, 50).combine_chunks()
    )
    assert digest_of(table.slice(10, 50)) != digest_of(table.slice(11, 50))
    assert digest_of(table.slice(0, 0)) != digest_of(table.drop(["role"]).slice(0, 0))


def test_no_rows_are_no_chunk():
    assert list(chunks([])) == list(chunks([TURNS.empty_table()])) == []
