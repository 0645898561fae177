from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trainings import WORDS, examples

from models import tokenizer


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in ("examples", "tokenizer"):
        (folder / name).mkdir()
    pq.write_table(examples(60, 0, "train"), folder / "examples" / "train.parquet")
    pq.write_table(examples(20, 1, "validation"), folder / "examples" / "validation.parquet")
    learnt = tokenizer.learn_words([" ".join(WORDS)], min_count=1)
    tokenizer.save(learnt, [1.0] * 257, folder / "tokenizer")
    (folder / "tokenizer" / "manifest.json").write_text("{}")
    return folder
