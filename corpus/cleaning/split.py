"""Split: assigns each conversation to exactly one of the training, validation and test splits."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from corpus.cleaning.config import CleanConfig
from corpus.cleaning.forgotten import FORGOTTEN
from corpus.cleaning.texts import WITHOUT_LETTERS
from models.data.schemas import SPLITS
from models.errors import DataRejected

POSITIONS = 2.0**64
UNITS_IN_MEMORY = 1 << 16  # so many names' positions are remembered; a film has hundreds of conversations


@lru_cache(UNITS_IN_MEMORY)
def position_of(name: str) -> int:
    """The position of a group or conversation among the splits: the first eight bytes of its name's hash.

    Only the name decides it, so new data never moves a group or conversation to another split.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def splits_at(positions: NDArray[np.uint64], config: CleanConfig) -> NDArray[np.int8]:
    """The splits to which positions belong, as positions in SPLITS. Other data has no influence on them."""
    shares = positions / POSITIONS
    is_validation = shares < config.test_share + config.validation_share
    return np.where(shares < config.test_share, 2, np.where(is_validation, 1, 0)).astype(np.int8)


def split_of(name: str, config: CleanConfig) -> str:
    """The split of a group or conversation."""
    return SPLITS[splits_at(np.array([position_of(name)], np.uint64), config)[0]]


def check_splits(
    splits: NDArray[np.int8], positions: NDArray[np.uint64], counts: Counter[str], config: CleanConfig
) -> None:
    """Check that each split contains at least one conversation.

    Args:
        splits: the split of each conversation, from `splits_at`.
        positions: the position of each conversation's group (or of itself).

    Raises:
        DataRejected: a split is empty, so a model could not be trained or evaluated.
    """
    sizes = dict(zip(SPLITS, np.bincount(splits, minlength=len(SPLITS)).tolist(), strict=True))
    if problem := empty_splits_problem(sizes, len(np.unique(positions)), counts, config):
        raise DataRejected(problem)


def empty_splits_problem(
    sizes: Mapping[str, int], units: int, counts: Counter[str], config: CleanConfig
) -> str | None:
    """Which splits are empty, why, and what to do about it; None if each split has a conversation.

    Args:
        sizes: the number of conversations in each split that has any.
        units: the number of groups (or of conversations, with `split_by=conversation`).
        counts: the counts of `clean_conversations`.
    """
    empty = [split for split in SPLITS if not sizes.get(split)]
    if not empty:
        return None
    usable = sum(sizes.values())
    remedy = f"use a corpus with more {config.split_by}s"
    if config.normalisation == "article" and counts[WITHOUT_LETTERS] > counts["turns read"] / 2:
        remedy = (
            f"{counts[WITHOUT_LETTERS]:,} of {counts['turns read']:,} turns have no letters left, because "
            "the normalisation `article` keeps only a to z: use --set clean.normalisation=plain"
        )
    elif config.split_by == "group" and usable > units:
        remedy = f"use a corpus with more {config.split_by}s, or --set clean.split_by=conversation"
    if counts[FORGOTTEN]:
        remedy += f"; {counts[FORGOTTEN]:,} conversations are forgotten (`repartee corpus forget` lists them)"
    subject = f"the {' and '.join(empty)} split{' is' if len(empty) == 1 else 's are'} empty"
    return (
        f"{subject}: {counts['conversations read']:,} conversations were read, "
        f"of which {usable:,} are usable, in {units:,} {config.split_by}s; {remedy}"
    )
