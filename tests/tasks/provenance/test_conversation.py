"""What has become of a conversation, in outputs that the stage clean has written."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.terminal.conversation import conversation_text
from corpus.cleaning.clean import clean_turns
from corpus.cleaning.config import CleanConfig, MixConfig
from corpus.cleaning.forgotten import NOTHING, Forgotten
from corpus.cleaning.split import split_of
from models.data.schemas import TURNS
from models.errors import InputError
from tasks.provenance.conversation import find_conversation

LONG = "the harbour master keeps the key of the old tower in the second drawer"


def rows(conversation, *texts, group="m0"):
    fields = {"group": group, "role": "", "weight": 1.0}
    return [
        {"conversation_id": conversation, "turn": i, "speaker": f"u{i % 2}", "text": text, **fields}
        for i, text in enumerate(texts)
    ]


def group_in(split, config):
    return next(name for i in range(1000) if split_of(name := f"g{i}", config) == split)


@pytest.fixture
def prepare(tmp_path):
    """Writes the outputs of parse and clean, and returns a function that finds a conversation in them."""

    def write(turns, config=None, forgotten=NOTHING):
        config = config or CleanConfig()
        parse, clean = tmp_path / "parse", tmp_path / "clean"
        for split in ("train", "validation", "test"):
            turns = [*turns, *rows(f"{split}-filler", f"filler of {split}", f"a reply in {split}",
                                   group=group_in(split, config))]  # fmt: skip
        for folder in (parse, clean):
            folder.mkdir()
        pq.write_table(pa.Table.from_pylist(turns, TURNS), parse / "turns.parquet")
        clean_turns(clean, config, parse, forgotten)
        manifest = {"ingredients": {"config": config.model_dump(mode="json")}}
        (clean / "manifest.json").write_text(json.dumps(manifest))
        return lambda name, now=NOTHING: find_conversation(parse, clean, name, now)

    return write


def test_its_turns_and_its_split_are_shown_as_read_and_as_used(prepare):
    config = CleanConfig()
    fate = prepare(rows("L1", "Who?", "  Me. ", "Why?", group=group_in("train", config)))("L1")
    assert [turn.text for turn in fate.as_read] == ["Who?", "  Me. ", "Why?"]
    (part,) = fate.parts
    assert (part.id, part.split, [turn.text for turn in part.turns]) == (
        "L1",
        "train",
        ["Who?", "Me.", "Why?"],
    )
    assert fate.left_out == [] and fate.leaks == []
    assert "L1 as it is used, in the train split\n  u0: Who?" in conversation_text(fate)


def test_an_empty_turn_is_counted_and_the_parts_around_it_are_shown(prepare):
    fate = prepare(rows("L1", "Who?", "Me.", " ", "Why?", "So.", group=group_in("train", CleanConfig())))(
        "L1"
    )
    assert [part.id for part in fate.parts] == ["L1", "L1/2"]
    assert fate.counts["turns empty, or empty once cleaned"] == 1


def test_a_copy_names_the_conversation_that_is_used_instead(prepare):
    group = group_in("train", CleanConfig())
    find = prepare([*rows("L1", "Who?", "Me.", group=group), *rows("L2", "Who?", "Me.", group=group)])
    left = next(name for name in ("L1", "L2") if not find(name).parts)
    other = {"L1": "L2", "L2": "L1"}[left]
    assert find(left).left_out == [f"{left} has the same texts as {other}, which is used instead"]
    assert "nothing of it is in the prepared data" in conversation_text(find(left))


def test_a_leak_is_shown_with_its_twin(prepare):
    config = CleanConfig()
    find = prepare(
        [
            *rows("L1", "Who?", f"{LONG}.", "Why?", "So it is.", group=group_in("train", config)),
            *rows("T1", "Where?", f"{LONG}!", group=group_in("test", config)),
        ]
    )
    fate = find("L1")
    assert [(leak["turn"], leak["twin_conversation_id"]) for leak in fate.leaks] == [(1, "T1")]
    assert f"'{LONG}.', is like turn 1 of T1 in the test split" in conversation_text(fate)
    assert [[turn.text for turn in part.turns] for part in fate.parts] == [["Why?", "So it is."]]
    assert find("L1~2") == fate, "the id of a part leads to its conversation"


def test_what_is_forgotten_or_outside_of_the_share_is_said(prepare):
    config = CleanConfig()
    forgotten = Forgotten(frozenset({"L1"}))
    find = prepare(rows("L1", "Who?", "Me.", group=group_in("train", config)), forgotten=forgotten)
    assert find("L1", forgotten).left_out == [
        "it is one of the conversations that are forgotten (`repartee corpus forget`)"
    ]


def test_what_is_outside_of_the_share_of_its_source_is_said(prepare):
    config = MixConfig(weights={"mine": 0.5})
    groups = [f"film {i}" for i in range(12)]
    find = prepare(
        [
            row
            for i, group in enumerate(groups)
            for row in rows(f"L{i}", f"Who is {i}?", f"I am {i}.", group=group)
        ],
        config,
    )
    fates = [find(f"L{i}") for i in range(12)]
    outside = [fate for fate in fates if not fate.parts]
    assert 0 < len(outside) < 12
    assert {text for fate in outside for text in fate.left_out} == {
        "it is one of the conversations outside the share of their source"
    }


def test_an_id_that_there_is_not_is_refused_with_examples(prepare):
    find = prepare(rows("L1", "Who?", "Me.", group=group_in("train", CleanConfig())))
    with pytest.raises(InputError, match="no conversation 'L7'; the first ones are L1, train-filler"):
        find("L7")
