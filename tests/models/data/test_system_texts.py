"""The stage `export` with and without system texts."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.examples import export_examples
from models.data.schemas import EXAMPLES, SILENT, SPLIT_TURNS, SYSTEM
from models.text import tokenizer
from models.text.config import MarkupConfig

TEXTS = ["do you have bread ?", "yes .", "be brief ."]


def row(conversation, turn, text, split, system=""):
    fields = {"speaker": "a", "group": conversation, "role": "", "weight": 1.0}
    return {
        **fields,
        "conversation_id": conversation,
        "turn": turn,
        "text": text,
        "split": split,
        "system": system,
    }


@pytest.fixture
def clean(tmp_path):
    """The output of `clean`; the first conversation of each split has a system text."""
    rows = []
    for split in ("train", "validation", "test"):
        for i, system in enumerate([TEXTS[2], "", "be brief . " * 40]):
            name = f"{split} {i}"
            rows += [row(name, 0, TEXTS[0], split, system), row(name, 1, TEXTS[1], split)]
    (tmp_path / "clean").mkdir()
    table = pa.Table.from_pylist(rows, SPLIT_TURNS.append(SYSTEM))
    pq.write_table(table, tmp_path / "clean" / "turns.parquet")
    (tmp_path / "clean" / "report.json").write_text(json.dumps({"normalisation": "plain"}))
    return tmp_path / "clean"


def exported(clean, **markup):
    folder = clean.parent
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(
        tokenizer.learn_words(TEXTS, min_count=1), tokenizer.learn_spelling(TEXTS), folder / "tokenizer"
    )
    out = folder / "out"
    out.mkdir(exist_ok=True)
    export_examples(out, MarkupConfig(max_tokens=64, **markup), clean, folder / "tokenizer")
    return pq.read_table(out / "train.parquet"), json.loads((out / "dialogue.json").read_text())


def test_the_examples_begin_with_the_system_text_if_it_fits(clean, caplog):
    caplog.set_level("INFO")
    table, dialogue = exported(clean)
    assert table.schema.names == [*EXAMPLES.names, SILENT.name]
    assert table[SILENT.name].to_pylist() == [5, 0, 0], "<start> be brief . <end>"
    assert dialogue["has_system"] is True
    assert "3 of 9 examples begin with a system text; a text of more than 8 tokens is left out" in caplog.text


@pytest.mark.parametrize("is_dropped", [True, False])
def test_without_system_texts_every_byte_is_that_of_earlier_releases(clean, is_dropped):
    if not is_dropped:
        path = clean / "turns.parquet"
        pq.write_table(pq.read_table(path).drop_columns([SYSTEM.name]), path)
    table, dialogue = exported(clean, **({"system": "drop"} if is_dropped else {}))
    assert table.schema.names == EXAMPLES.names
    markup = {"unit": "conversation", "max_tokens": 64, **({"system": "drop"} if is_dropped else {})}
    assert dialogue == {"normalisation": "plain", "redaction": "none", "markup": markup}
