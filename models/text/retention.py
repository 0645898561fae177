"""Retention: whether the vocabulary of an initial model is good enough for new data to stay in use.

With the same vocabulary, the ids of all texts stay, so that only new texts are encoded, and a warm start
moves no embedding. It stays while it needs at most MOST_TOKENS times as many tokens as a vocabulary that is
learnt from the new data.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from models.record import Record
from models.text import tokenizer

MOST_TOKENS = 1.02
SAMPLE_CHARACTERS = 1 << 20
RETENTION = "logs/retention.json"
"""The file in the output of the stage that says whether the vocabulary has stayed, and why."""
_BATCH = 1 << 12


class Retention(Record):
    """The comparison of the initial model's vocabulary with one that was learnt from a sample of the data."""

    tokens: int
    """The number of tokens in which the initial model's vocabulary encodes another sample."""
    tokens_new: int
    """The same for the vocabulary that was learnt from the sample."""

    @property
    def stays(self) -> bool:
        return self.tokens <= MOST_TOKENS * self.tokens_new

    def text(self) -> str:
        """The comparison in words."""
        more = self.tokens / max(1, self.tokens_new) - 1
        verb = "stays" if self.stays else "is replaced by a new one"
        difference = f"{abs(more):.1%} {'more' if more > 0 else 'fewer'} tokens"
        return (
            f"the initial model's vocabulary {verb}: it needs {difference} for a sample of the data than a "
            f"new one (the limit is {MOST_TOKENS - 1:.0%} more)"
        )


class Samples(NamedTuple):
    """Two samples of texts that have no text in common."""

    learnt: list[str]
    encoded: list[str]


def samples_of(texts: Sequence[str]) -> Samples:
    """Two samples of SAMPLE_CHARACTERS characters each at most, spread evenly over the texts."""
    every = 1 + sum(map(len, texts)) // (2 * SAMPLE_CHARACTERS)
    return Samples(list(texts[:: 2 * every]), list(texts[every :: 2 * every]))


def is_own(folder: Path, size: int) -> bool:
    """Whether a model folder has a `bpe` vocabulary that Repartee has learnt, with at most `size` ids."""
    if not (folder / "spelling.json").is_file() or (folder / "control.json").exists():
        return False
    vocabulary = tokenizer.load(folder)
    return not tokenizer.forgets_blanks(vocabulary) and vocabulary.get_vocab_size() <= size


def compare(initial: Path, texts: Sequence[str], size: int) -> Retention:
    """Compare the vocabulary in a folder with one of at most `size` ids that is learnt from a sample."""
    samples = samples_of(texts)
    new = tokenizer.learn_bpe(samples.learnt, size=size)
    return Retention(
        tokens=_count_tokens(tokenizer.load(initial), samples.encoded),
        tokens_new=_count_tokens(new, samples.encoded),
    )


def take_over(initial: Path, out: Path) -> int:
    """Write the vocabulary of a model folder as it was written when it was learnt; return its size."""
    vocabulary = tokenizer.load(initial)
    tokenizer.save(vocabulary, tokenizer.load_spelling(initial), out)
    shutil.copyfile(initial / "tokenizer.json", out / "tokenizer.json")  # byte for byte
    return int(vocabulary.get_vocab_size())


def _count_tokens(vocabulary: Tokenizer, texts: Sequence[str]) -> int:
    batches = (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))
    return sum(
        len(each.ids)
        for batch in batches
        for each in vocabulary.encode_batch_fast(batch, add_special_tokens=False)
    )
