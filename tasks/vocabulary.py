"""Vocabulary: which ids there are, learnt from the training split alone."""

from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from prefect import task
from pydantic import Field

from models import tokenizer
from models.config import Config
from tasks.artifacts import Artifact
from tasks.stage import Stage, named


class VocabularyConfig(Config):
    kind: Literal["word", "bpe"] = "bpe"
    """`bpe`: byte-level pairs, every text has ids; `word`: whole words, rare ones become <unk>."""
    size: int = Field(default=4096, ge=260, le=65_536)
    """Ids of a `bpe` vocabulary, at most; they are stored in 16 bits."""
    min_count: int = Field(default=10, ge=1)
    """How often a word must stand in the training split to be in a `word` vocabulary."""


def learn_vocabulary(out: Path, config: VocabularyConfig, clean: Path) -> int:
    """The training split's turns -> a tokenizer folder; returns the number of ids."""
    table = pq.read_table(clean / "turns.parquet", columns=["text"], filters=[("split", "=", "train")])
    texts = table["text"].to_pylist()
    if config.kind == "word":
        learnt = tokenizer.learn_words(texts, min_count=config.min_count)
    else:
        learnt = tokenizer.learn_bpe(texts, size=config.size)
    tokenizer.save(learnt, tokenizer.learn_spelling(texts), out)
    return int(learnt.get_vocab_size())


STAGE = Stage("vocabulary", learn_vocabulary)


@task(task_run_name="vocabulary")
def vocabulary(clean: Artifact, config: VocabularyConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {"clean": clean}))
