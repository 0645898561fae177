"""What is prepared of conversations that arrive one after another is what is prepared of all at once."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.prepared import FEWEST_ROWS
from models.data.schemas import SYSTEM, TURNS
from tasks.store.shards import StoredShards

WORDS = ["bread", "market", "oven", "seven", "today", "street", "river", "apple", "window", "letter"]
CONFIGS = {
    "plain": CleanConfig(),
    "article": CleanConfig(normalisation="article", redact="none", split_by="conversation"),
    "weights": MixConfig(weights={"mine": 1.5}),
}


def block(number: int) -> list[list[dict[str, Any]]]:
    """2,000 conversations, some with personal data, an empty turn, a system text, or the texts of another."""
    rng = random.Random(number)
    conversations = []
    for i in range(2000):
        texts = [
            f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 12)))} {rng.randrange(900)}." for _ in range(3)
        ]
        if i % 50 == 0:
            texts[1] = ""
        if i % 70 == 0:
            texts[0] = f"Write to ann{i}@example.com or call 0171 {number}{i:06}."
        if i % 40 == 0:
            texts = [f"The same question in all {i} blocks of this corpus.", "The same answer."]
        common = {
            "conversation_id": f"c{number}-{i}",
            "group": f"g{number}-{i % 40}",
            "role": "",
            "weight": 1.0,
        }
        conversations.append(
            [
                {**common, "turn": turn, "speaker": f"u{turn}", "text": text, "system": ""}
                for turn, text in enumerate(texts)
            ]
        )
        conversations[-1][0]["system"] = "Be brief. Ask bob@example.com." if i == 700 else ""
    return conversations


@pytest.fixture(scope="module")
def blocks() -> list[list[dict[str, Any]]]:
    return [[row for conversation in block(number) for row in conversation] for number in range(10)]


def write(folder: Path, blocks: list[list[dict[str, Any]]]) -> Path:
    folder.mkdir()
    table = pa.Table.from_pylist([row for each in blocks for row in each], TURNS.append(SYSTEM))
    pq.write_table(table, folder / "turns.parquet", row_group_size=10_007)
    return folder


def cleaned(turns: Path, config: CleanConfig, home: Path | None = None) -> dict[str, bytes]:
    out = turns / ("with shards" if home else "anew") / config.normalisation
    out.mkdir(parents=True, exist_ok=True)
    clean_turns(out, config, turns, shards=StoredShards(home) if home else None)
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def shards_of(home: Path) -> set[str]:
    return {path.name for path in home.glob("store/shards/[!.]*")}


@pytest.mark.parametrize("name", CONFIGS)
def test_blocks_in_any_order_of_arrival_give_the_same_bytes_as_all_at_once(tmp_path, blocks, name):
    config, rng = CONFIGS[name], random.Random(name)
    order = rng.sample(range(10), 10)
    for number in (3, 7, 10):
        arrived = write(tmp_path / str(number), [blocks[i] for i in sorted(order[:number])])
        found = cleaned(arrived, config, tmp_path / "home")
    assert found == cleaned(arrived, config)
    assert shards_of(tmp_path / "home")
    fewer = write(tmp_path / "fewer", [blocks[i] for i in range(10) if i != order[4]])
    assert cleaned(fewer, config, tmp_path / "home") == cleaned(fewer, config)


def test_only_chunks_with_new_conversations_are_prepared(tmp_path, blocks):
    home = tmp_path / "home"
    cleaned(write(tmp_path / "one", blocks), CONFIGS["plain"], home)
    before = shards_of(home)
    assert len(before) > 3
    new = [{**row, "conversation_id": f"new {row['conversation_id']}"} for row in blocks[4][:3]]
    cleaned(write(tmp_path / "two", [*blocks[:5], new, *blocks[5:]]), CONFIGS["plain"], home)
    assert len(shards_of(home) - before) == 1


def test_other_settings_are_other_shards_and_a_small_chunk_has_none(tmp_path, blocks):
    turns, home = write(tmp_path / "turns", blocks[:3]), tmp_path / "home"
    numbers = []
    for config in (CleanConfig(), CleanConfig(redact="none"), CleanConfig(test_share=0.1)):
        assert cleaned(turns, config, home) == cleaned(turns, config)
        numbers.append(len(shards_of(home)))
    assert numbers[1] == numbers[2] == 2 * numbers[0], "the share of a split decides no chunk"
    few = write(tmp_path / "few", [blocks[0][: FEWEST_ROWS - 30]])
    before = shards_of(home)
    cleaned(few, CleanConfig(validation_share=0.3, test_share=0.3), home)
    assert shards_of(home) == before
