"""The vocabulary, which is learnt from the training split only or taken from an initial model."""

import logging
import shutil
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from pydantic import Field

from models.config import Config
from models.text import retention, tokenizer

log = logging.getLogger(__name__)


class VocabularyConfig(Config):
    kind: Literal["word", "bpe", "pretrained"] = "bpe"
    """`bpe`: byte-level BPE, which can encode every text. `word`: whole words; rare words become <unk>.
    `pretrained`: the vocabulary and the chat template of the model that `start.init` names."""
    size: int = Field(default=4096, ge=260, le=65_536)
    """Maximum number of ids in a `bpe` vocabulary."""
    min_count: int = Field(default=10, ge=1)
    """How often a word must occur in the training split to be in a `word` vocabulary."""


def learn_vocabulary(
    out: Path, config: VocabularyConfig, clean: Path, start: Path | None = None, trunk: Path | None = None
) -> int:
    """Learn a tokenizer from the training split, or take that of the initial model; write its folder.

    Args:
        start: the folder of the initial model.
        trunk: the model folder of the trunk from which the run goes on.

    Returns:
        The number of ids in the vocabulary.

    Raises:
        InputError: the initial model has no usable tokenizer.
    """
    table = pq.read_table(clean / "turns.parquet", columns=["text"], filters=[("split", "=", "train")])
    texts = table["text"].to_pylist()
    if config.kind == "pretrained" and start is not None:
        return adopt(out, start, tokenizer.learn_spelling(texts))
    initial = start or trunk
    if config.kind == "bpe" and initial is not None and retention.is_own(initial, config.size):
        compared = retention.compare(initial, texts, config.size)
        log.info("vocabulary: %s", compared.text())
        (out / retention.RETENTION).parent.mkdir()
        compared.write(out / retention.RETENTION)
        if compared.stays:
            return retention.take_over(initial, out)
    spelling = tokenizer.learn_spelling(texts)
    if config.kind == "word":
        learnt = tokenizer.learn_words(texts, min_count=config.min_count)
        spelling += tokenizer.learn_blanks(texts)
    else:
        learnt = tokenizer.learn_bpe(texts, size=config.size)
    tokenizer.save(learnt, spelling, out)
    return int(learnt.get_vocab_size())


def adopt(out: Path, start: Path, spelling: list[float]) -> int:
    """Write the initial model's tokenizer, chat template and special tokens; return the number of ids.

    Raises:
        InputError: the initial model has no tokenizer, or its chat template cannot be used.
    """
    from models.text import chat_template  # imports transformers, which takes seconds

    theirs = chat_template.open_tokenizer(start)
    if not theirs.chat_template:
        theirs.chat_template = chat_template.FALLBACK_TEMPLATE
    theirs.save_pretrained(out)
    for path in out.iterdir():
        if path.suffix not in (".json", ".jinja"):
            path.unlink()  # the same tokenizer in another format, which nothing reads
    shutil.copyfile(start / "tokenizer.json", out / "tokenizer.json")  # byte for byte
    tokenizer.save_spelling(spelling, out)
    tokenizer.save_special_tokens(chat_template.read_special_tokens(out), out)
    return int(tokenizer.load(out).get_vocab_size())
