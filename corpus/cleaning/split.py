"""Split: assigns each conversation to exactly one of the training, validation and test splits."""

import hashlib
from collections import Counter

from corpus.cleaning.config import CleanConfig
from corpus.cleaning.conversations import WITHOUT_LETTERS, Conversation
from models.data.schemas import SPLITS
from models.errors import DataRejected


def split_unit(conversation: Conversation, config: CleanConfig) -> str:
    """The name of the unit that is never divided between splits: the group or the complete conversation.

    Two parts of one conversation in different splits would help a model that has trained on one of them.
    """
    return conversation.group if config.split_by == "group" else conversation.source_id


def split_of(name: str, config: CleanConfig) -> str:
    """The split of a group or conversation. Only its name decides, so new data does not change the split."""
    # The first eight bytes of the hash, as a number that is at least 0 and less than 1.
    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    if position < config.test_share:
        return "test"
    return "validation" if position < config.test_share + config.validation_share else "train"


def split_conversations(
    conversations: list[Conversation], config: CleanConfig, counts: Counter[str]
) -> list[tuple[Conversation, str]]:
    """Each conversation with its split. Of conversations with equal texts, only one is kept.

    If the test split has a copy, the first copy in the test split is kept. Otherwise the first copy in the
    validation split is kept, or if there is none, the first copy in the training split.
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
            counts["conversations said before in the same split"] += 1
        else:
            counts["conversations that the test or validation set holds"] += 1
    return unique


def check_splits(
    conversations: list[tuple[Conversation, str]], counts: Counter[str], config: CleanConfig
) -> None:
    """Check that each split holds a conversation.

    Raises:
        DataRejected: a split is empty, so a model could not be trained or evaluated.
    """
    sizes = Counter(split for _, split in conversations)
    empty = [split for split in SPLITS if not sizes[split]]
    if not empty:
        return
    units = len({split_unit(c, config) for c, _ in conversations})
    remedy = f"give a corpus with more {config.split_by}s"
    if config.normalisation == "article" and counts[WITHOUT_LETTERS] > counts["turns read"] / 2:
        remedy = (
            f"{counts[WITHOUT_LETTERS]:,} of {counts['turns read']:,} turns have no letter left, because "
            "`article` keeps only a to z: use --set clean.normalisation=plain"
        )
    elif config.split_by == "group" and len(conversations) > units:
        remedy = f"give a corpus with more {config.split_by}s, or use --set clean.split_by=conversation"
    subject = f"the {' and '.join(empty)} split{' is' if len(empty) == 1 else 's are'} empty"
    raise DataRejected(
        f"{subject}: {counts['conversations read']:,} conversations read, "
        f"{len(conversations):,} usable in {units:,} {config.split_by}s; {remedy}"
    )
