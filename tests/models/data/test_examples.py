import json

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from models.data.examples import export_examples
from models.data.schemas import EXAMPLES, SPLIT_TURNS
from models.text import tokenizer
from models.text.config import DIALOGUE, Dialogue, MarkupConfig
from models.text.vocabulary import VocabularyConfig, learn_vocabulary


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    for name in ("clean", "vocabulary", "export"):
        (folder / name).mkdir()
    rows = [
        {
            "conversation_id": f"L{i}",
            "turn": turn,
            "speaker": "u",
            "text": text,
            "group": f"m{i}",
            "role": "",
            "weight": 1.0,
            "split": split,
        }
        for i, split in enumerate(["train"] * 8 + ["validation", "test"])
        for turn, text in enumerate(
            (f"Say {i}.", "Hello there!", f"It was {i}, secretly." if split == "test" else "Yes.")
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows, SPLIT_TURNS), folder / "clean" / "turns.parquet")
    (folder / "clean" / "report.json").write_text(json.dumps({"normalisation": "plain"}))
    learn_vocabulary(folder / "vocabulary", VocabularyConfig(size=300), folder / "clean")
    count = export_examples(folder / "export", MarkupConfig(), folder / "clean", folder / "vocabulary")
    assert count == 10
    return folder


def test_the_settings_of_the_text_go_with_the_examples(exported, tmp_path):
    assert Dialogue.read(exported / "export" / DIALOGUE).redaction == "none"
    (tmp_path / "turns.parquet").write_bytes((exported / "clean" / "turns.parquet").read_bytes())
    report = {"normalisation": "plain", "redaction": "personal"}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "export").mkdir()
    export_examples(tmp_path / "export", MarkupConfig(), tmp_path, exported / "vocabulary")
    assert Dialogue.read(tmp_path / "export" / DIALOGUE).redaction == "personal"


def test_the_vocabulary_knows_the_training_split_alone(exported):
    """Words from the validation or test split must not leak into the vocabulary."""
    learnt = tokenizer.learn_words(["secretly"], min_count=1)
    assert "secretly" in learnt.get_vocab()
    bpe = tokenizer.load(exported / "vocabulary")
    assert not any("cret" in token for token in bpe.get_vocab())


def test_each_file_holds_its_split_in_the_declared_columns(exported):
    for split, rows in (("train", 8), ("validation", 1), ("test", 1)):
        table = pq.read_table(exported / "export" / f"{split}.parquet")
        assert table.schema.equals(EXAMPLES)
        assert table.num_rows == rows
        assert set(table["split"].to_pylist()) == {split}


def test_bytes_are_those_of_the_replies(exported):
    row = pq.read_table(exported / "export" / "test.parquet").to_pylist()[0]
    assert row["replies"] == 2
    assert row["reply_bytes"] == len("Hello there!") + len("It was 9, secretly.")


def test_row_groups_have_statistics(exported):
    column = pq.ParquetFile(exported / "export" / "train.parquet").metadata.row_group(0).column(3)
    assert column.is_stats_set and column.compression == "ZSTD"


def test_pandas_duckdb_and_datasets_open_it_with_no_code_of_ours(exported, tmp_path):
    path = str(exported / "export" / "train.parquet")
    assert len(pd.read_parquet(path)) == 8
    assert duckdb.sql(f"select sum(replies) from '{path}'").fetchall() == [(16,)]
    loaded = load_dataset("parquet", data_files={"train": path}, cache_dir=str(tmp_path))["train"]
    assert loaded.num_rows == 8 and loaded[0]["is_reply"][0] is False
