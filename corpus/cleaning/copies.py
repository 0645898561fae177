"""Copies: finds conversations with equal texts, and counts the exchanges that occur more than once.

Texts are compared by 128 bits of their hashes, so that a corpus of any size takes about 50 bytes per
conversation and 12 bytes per turn. Two different conversations of ten million have the same hash with a
probability of 10^-25. The list of forgotten conversations stores these hashes (corpus/forget_list.py), so
they must stay the same in later releases.
"""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of
from corpus.cleaning.conversations import Parts
from corpus.cleaning.word_pairs import Hashes, text_keys

IN_SAME_SPLIT = "conversations that repeat another one of the same split"
IN_OTHER_SPLIT = "conversations that the test or validation set holds"
DIGEST_BYTES = 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / the golden ratio, odd: multiplication is a permutation

Digests = NDArray[np.uint64]
"""Hashes of 128 bits, each as a row of two numbers."""


class Copies:
    """The hashes of all conversations of a corpus, in the order in which they were added."""

    def __init__(self) -> None:
        self._digests: list[Digests] = []
        self._splits: list[NDArray[np.int8]] = []
        self._keys = [np.zeros(0, np.uint64)]
        self._exchanges = [np.zeros(0, np.uint64)]
        self._exchange_parts: list[NDArray[np.int32]] = []
        self._sizes = [np.zeros(0, np.int64)]
        self._parts = 0

    def add(self, parts: Parts, splits: NDArray[np.int8], texts: Digests, digests: Digests) -> None:
        """Add conversations.

        Args:
            splits: the position of each one's split in SPLITS.
            texts: the result of `text_digests` for their turns.
            digests: the result of `part_digests` for these.
        """
        exchanges, first_turns = exchange_hashes(texts, parts.starts)
        part_of_turn = np.repeat(np.arange(len(splits), dtype=np.int32), parts.sizes)
        self._digests.append(digests)
        self._splits.append(splits)
        self._sizes.append(parts.sizes)
        ids = parts.turns["conversation_id"].combine_chunks().take(number_array(parts.starts[:-1]))
        self._keys.append(text_keys(ids))
        self._exchanges.append(exchanges)
        self._exchange_parts.append(part_of_turn[first_turns] + np.int32(self._parts))
        self._parts += len(splits)

    @property
    def keys(self) -> Hashes:
        """A hash of the id of each conversation."""
        return np.concatenate(self._keys)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of turns of each conversation."""
        return np.concatenate(self._sizes)

    @property
    def exchanges(self) -> Hashes:
        """A hash of each turn with its reply, in the order of the replies."""
        return np.concatenate(self._exchanges)

    def unique(self, counts: Counter[str], turns: Counter[str] | None = None) -> NDArray[np.bool_]:
        """Whether each conversation stays; of several with the same texts, only one does.

        A copy in the test split takes precedence over one in the validation split, which takes precedence
        over one in the training split. Within a split, a hash of the id decides, so that the order in which
        conversations arrive has no influence.

        Args:
            counts: the number of the others is added to these counts, by cause.
            turns: the number of their turns is added to these counts.
        """
        if not self._parts:
            return np.zeros(0, bool)
        splits, digests = np.concatenate(self._splits), np.concatenate(self._digests)
        # By text; then the later split first, then by the id, then the order in which they were added.
        order = np.lexsort((np.arange(self._parts), self.keys, -splits, digests[:, 1], digests[:, 0]))
        splits, digests = splits[order], digests[order]
        is_best = np.ones(self._parts, bool)
        is_best[1:] = (digests[1:] != digests[:-1]).any(axis=1)
        is_same_split = splits == splits[is_best][np.cumsum(is_best) - 1]
        sizes = self.sizes[order]
        for cause, is_copy in (
            (IN_SAME_SPLIT, ~is_best & is_same_split),
            (IN_OTHER_SPLIT, ~is_same_split),
        ):
            if is_copy.any():
                counts[cause] += int(is_copy.sum())
                if turns is not None:
                    turns[f"in {cause}"] += int(sizes[is_copy].sum())
        stays = np.zeros(self._parts, bool)
        stays[order[is_best]] = True
        return stays

    def repeated_exchanges(self, stays: NDArray[np.bool_]) -> int:
        """The number of exchanges (a turn and its reply) of these conversations that repeat another one."""
        if not self._parts:
            return 0
        exchanges = self.exchanges[stays[np.concatenate(self._exchange_parts)]]
        return len(exchanges) - len(np.unique(exchanges))


def text_digests(turns: pa.Table) -> Digests:
    """A hash of the text of each turn."""
    encoded = turns["text"].combine_chunks().dictionary_encode()
    distinct = _digests(encoded.dictionary.cast(pa.binary()).to_pylist())
    numbers: NDArray[np.int32] = numbers_of(encoded.indices)
    return distinct[numbers]


def part_digests(texts: Digests, starts: NDArray[np.int64]) -> Digests:
    """A hash of the texts of each conversation, from the hashes of its texts."""
    data, edges = texts.tobytes(), (starts * DIGEST_BYTES).tolist()
    return _digests([data[a:b] for a, b in pairwise(edges)])


def exchange_hashes(
    texts: Digests, starts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A hash of each turn with its reply, and the position of this turn."""
    has_reply = np.ones(len(texts), bool)
    has_reply[starts[1:] - 1] = False
    first = np.flatnonzero(has_reply)
    return texts[first, 0] * _MULTIPLIER ^ texts[first + 1, 0], first


def _digests(values: list[bytes]) -> Digests:
    digests = b"".join(hashlib.blake2b(value, digest_size=DIGEST_BYTES).digest() for value in values)
    return np.frombuffer(digests, "<u8").reshape(-1, 2).astype(np.uint64, copy=False)
