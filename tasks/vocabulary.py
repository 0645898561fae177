"""Vocabulary: the stage that trains a tokenizer, or takes the tokenizer of a pretrained model."""

from models.text.vocabulary import VocabularyConfig, learn_vocabulary
from tasks.store.stage import Stage


def _may_read(config: VocabularyConfig) -> tuple[str, ...]:
    return ("start",) if config.kind == "pretrained" else ()


vocabulary = Stage("vocabulary", learn_vocabulary, reads=("clean",), may_read=_may_read, unit="tokens")
