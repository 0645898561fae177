"""Split: assigns each conversation to exactly one of the training, validation and test splits."""

import hashlib
from collections import Counter
from collections.abc import Mapping

from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import WITHOUT_LETTERS, Conversation
from models.data.schemas import SPLITS
from models.errors import DataRejected

POSITIONS = 2**64


def split_unit(conversation: Conversation, config: CleanConfig) -> str:
    """The name of what stays together in one split: the conversation's group or the complete conversation.

    If parts of one conversation were in different splits, training on one would help to predict the others.
    """
    return conversation.group if config.split_by == "group" else conversation.source_id


def position_of(name: str) -> int:
    """The position of a group or conversation among the splits: the first eight bytes of its name's hash."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def split_at(position: int, config: CleanConfig) -> str:
    """The split to which a position belongs."""
    share = position / POSITIONS
    if share < config.test_share:
        return "test"
    return "validation" if share < config.test_share + config.validation_share else "train"


def split_of(name: str, config: CleanConfig) -> str:
    """The split of a group or conversation. Only the name and the settings decide it, not other data."""
    return split_at(position_of(name), config)


def split_conversations(
    conversations: list[Conversation], config: CleanConfig, counts: Counter[str]
) -> list[tuple[Conversation, str]]:
    """The conversations with their splits. Of several conversations with the same texts, only one is kept.

    A copy in the test split takes precedence over one in the validation split, which takes precedence over
    one in the training split. Within a split, the first copy is kept.
    """
    assigned = [(c, split_of(split_unit(c, config), config)) for c in conversations]
    first_copies: dict[tuple[str, ...], tuple[str, str]] = {}
    for split in reversed(SPLITS):
        for conversation, assigned_split in assigned:
            if assigned_split == split:
                first_copies.setdefault(tuple(conversation.texts), (split, conversation.id))
    unique = []
    for conversation, split in assigned:
        first_split, first_id = first_copies[tuple(conversation.texts)]
        if (split, conversation.id) == (first_split, first_id):
            unique.append((conversation, split))
        elif split == first_split:
            counts["conversations that repeat an earlier one of the same split"] += 1
        else:
            counts["conversations that the test or validation set holds"] += 1
    return unique


def check_splits(
    conversations: list[tuple[Conversation, str]], counts: Counter[str], config: CleanConfig
) -> None:
    """Check that each split contains at least one conversation.

    Raises:
        DataRejected: a split is empty, so a model could not be trained or evaluated.
    """
    sizes = Counter(split for _, split in conversations)
    units = len({split_unit(c, config) for c, _ in conversations})
    if problem := empty_splits_problem(sizes, units, counts, config):
        raise DataRejected(problem)


def empty_splits_problem(
    sizes: Mapping[str, int], units: int, counts: Counter[str], config: CleanConfig
) -> str | None:
    """Which splits are empty, why, and what to do about it; None if each split has a conversation.

    Args:
        sizes: the number of conversations in each split that has any.
        units: the number of groups (or of conversations, with `split_by=conversation`).
        counts: the counts of `read_conversations`.
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
    subject = f"the {' and '.join(empty)} split{' is' if len(empty) == 1 else 's are'} empty"
    return (
        f"{subject}: {counts['conversations read']:,} conversations were read, "
        f"of which {usable:,} are usable, in {units:,} {config.split_by}s; {remedy}"
    )
