"""Leaks: finds what a split shares with the replies on which models are scored.

An exchange of the training split is a leak if the same exchange, with equal texts, is scored in the
validation or test split; so is an exchange of the validation split if it is scored in the test split. A turn
of eight or more words is also a leak if it is a near copy of such a reply (corpus/cleaning/near_copies.py).

What is common is no leak: a reply or exchange that occurs, exactly or nearly, in COMMON or more other
conversations of the corpus is a formula, such as a greeting or a template, which a model has to learn
(docs/decisions/0020-a-leak-leaves-the-training-split.md).

The result depends on the conversations, not on their order: a twin is chosen by its split, similarity and id.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of
from corpus.cleaning.near_copies import FEWEST_WORDS, NearCopyIndex
from corpus.cleaning.word_pairs import Hashes, WordPairs, mix, word_pairs
from models.data.schemas import SPLITS, TURNS

COMMON = 3
"""What occurs in so many other conversations of the corpus is common."""
BATCH_ROWS = 4096
TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Turns:
    """The turns of cleaned conversations in an Arrow file with the schema TURNS, in their order."""

    def __init__(
        self,
        file: Path,
        splits: NDArray[np.int8],
        *,
        sizes: Numbers,
        keys: Hashes,
        exchanges: Hashes,
    ) -> None:
        """
        Args:
            splits: the position in SPLITS of each conversation's split; -1 if the conversation is removed.
            sizes: the number of turns of each.
            keys: a hash of its id.
            exchanges: a hash of each turn with its reply, for all conversations.
        """
        self.file, self.keys, self.exchanges = file, keys, exchanges
        self.conversations = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        """The conversation of each turn."""
        self.splits = splits[self.conversations]
        self.is_reply = np.ones(len(self.conversations), bool)
        """Whether each turn has a turn before it."""
        self.is_reply[np.cumsum(sizes) - sizes] = False

    @cached_property
    def is_scored(self) -> Flags:
        """Whether models are scored on each turn: a reply with loss in the validation or test split."""
        is_scored = self.is_reply & (self.splits > TRAIN)
        for first, batch in self.batches():
            is_scored[first : first + batch.num_rows] &= numbers_of(batch["weight"]) > 0
        return is_scored

    def batches(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Each batch of the file, with the number of its first row."""
        first = 0
        with pa.memory_map(str(self.file)) as source, pa.ipc.open_file(source) as reader:
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                yield first, batch
                first += batch.num_rows

    def pairs(self, is_chosen: Flags) -> Iterator[WordPairs]:
        """The word pairs of the chosen turns that have FEWEST_WORDS or more words."""
        for first, batch in self.batches():
            own = np.flatnonzero(is_chosen[first : first + batch.num_rows])
            for start in range(0, len(own), BATCH_ROWS):
                rows = own[start : start + BATCH_ROWS]
                found = word_pairs(batch["text"].take(number_array(rows)), FEWEST_WORDS)
                yield found._replace(rows=first + rows[found.rows])

    def take(self, rows: Numbers, columns: Sequence[str]) -> pa.Table:
        """Some columns of these turns, in the order of `rows`."""
        ordered = np.sort(rows)
        found = [TURNS.empty_table().select(columns)]
        for first, batch in self.batches():
            start, end = np.searchsorted(ordered, [first, first + batch.num_rows])
            own = number_array(ordered[start:end] - first)
            found.append(pa.Table.from_batches([batch.select(columns).take(own)]))
        return pa.concat_tables(found).take(number_array(np.argsort(np.argsort(rows))))

    def by_preference(self, rows: Numbers) -> Numbers:
        """The order in which these turns are preferred as twins: the test split first, then by the id."""
        return np.lexsort((rows, self.keys[self.conversations[rows]], -self.splits[rows]))


class Leaks(NamedTuple):
    """Turns of the training and validation splits that are leaks, by their rows."""

    rows: Numbers
    """In the order of the hashes of their conversations' ids."""
    twins: Numbers
    """The scored reply that each of them repeats or resembles most."""
    similarities: NDArray[np.float64]
    is_near_copy: Flags
    """Whether the turn is a copy; otherwise only the exchange of the turn before and this turn is one."""


class _Shared:
    """What has been found of some texts or exchanges, each of which stands for all that are equal."""

    def __init__(self, turns: Turns, rows: Numbers, same: Hashes) -> None:
        """
        Args:
            rows: scored replies.
            same: equal hashes for those that are equal.
        """
        order = turns.by_preference(rows)
        self.distinct, first, self._kinds = np.unique(same[order], return_index=True, return_inverse=True)
        self.positions = order[first]
        """The positions in `rows` of the preferred one of each kind."""
        self._turns, self._scored, self._rows = turns, rows[order], rows[self.positions]
        self.is_common = np.zeros(len(first), bool)
        self._matches = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        self._found_in = np.zeros((0, 2), np.uint64)

    @property
    def common_rows(self) -> Numbers:
        """The scored replies that are common."""
        return self._scored[self.is_common[self._kinds]]

    def add(self, rows: Numbers, kinds: Numbers, similarities: NDArray[np.float64]) -> Numbers:
        """Add turns that are copies of the given kinds; return the kinds that have become common."""
        turns = self._turns
        is_other = turns.conversations[rows] != turns.conversations[self._rows[kinds]]
        conversations = turns.conversations[rows[is_other]].astype(np.uint64)
        pairs = np.stack([kinds[is_other].astype(np.uint64), conversations], axis=1)
        self._found_in = np.unique(np.concatenate([self._found_in, pairs]), axis=0)
        own = self._found_in[:, 0].astype(np.int64)
        new = np.flatnonzero(np.bincount(own, minlength=len(self._rows)) >= COMMON)
        self.is_common[new] = True
        self._found_in = self._found_in[~self.is_common[own]]
        # Two replies of the validation split, or of the test split, may resemble each other.
        is_below_test = (turns.splits[rows] < TEST) & (turns.splits[self._rows[kinds]] == TEST)
        is_leak = is_other & ((turns.splits[rows] == TRAIN) | is_below_test)
        added = rows[is_leak], kinds[is_leak], similarities[is_leak]
        rows, kinds, similarities = (np.concatenate(both) for both in zip(self._matches, added, strict=True))
        stays = ~self.is_common[kinds]
        self._matches = rows[stays], kinds[stays], similarities[stays]
        return new

    def leaks(self, *, is_near_copy: bool) -> Leaks:
        """The turns that are copies of what is not common; a turn may be a leak several times."""
        rows, kinds, similarities = self._matches
        return Leaks(rows, self._rows[kinds], similarities, np.full(len(rows), is_near_copy))


def find_leaks(turns: Turns) -> tuple[Leaks, int]:
    """The leaks, each turn once, and the number of scored replies that are common."""
    exact, near = _exact_exchanges(turns), _near_copies(turns)
    both = exact.leaks(is_near_copy=False), near.leaks(is_near_copy=True)
    leaks = Leaks(*(np.concatenate(columns) for columns in zip(*both, strict=True)))
    # A validation reply that is a leak is not scored, so nothing leaks from it into the training split.
    is_unscored = np.zeros(len(turns.splits), bool)
    is_unscored[leaks.rows[turns.splits[leaks.rows] > TRAIN]] = True
    leaks = choose(leaks, ~is_unscored[leaks.twins])
    preference = np.empty(len(leaks.rows), np.int64)
    preference[turns.by_preference(leaks.twins)] = np.arange(len(leaks.rows))
    order = np.lexsort((preference, -leaks.similarities, ~leaks.is_near_copy, leaks.rows))
    leaks = choose(leaks, order[np.diff(leaks.rows[order], prepend=-1) > 0])
    keys = turns.keys[turns.conversations[leaks.rows]]
    common = np.union1d(exact.common_rows, near.common_rows)
    return choose(leaks, np.lexsort((leaks.rows, keys))), len(common)


def choose(leaks: Leaks, rows: Numbers | Flags) -> Leaks:
    """Some of the leaks, by their positions or by flags."""
    return Leaks(leaks.rows[rows], leaks.twins[rows], leaks.similarities[rows], leaks.is_near_copy[rows])


def _exact_exchanges(turns: Turns) -> _Shared:
    """What is shared of exchanges with equal texts."""
    replies = np.flatnonzero(turns.is_reply)
    is_scored = turns.is_scored[replies]
    shared = _Shared(turns, replies[is_scored], turns.exchanges[is_scored])
    is_searched = (turns.splits[replies] == TRAIN) | is_scored
    rows, exchanges = replies[is_searched], turns.exchanges[is_searched]
    kinds = np.searchsorted(shared.distinct, exchanges)
    kinds[kinds == len(shared.distinct)] = 0
    is_equal = shared.distinct[kinds] == exchanges if len(shared.distinct) else np.zeros(len(rows), bool)
    shared.add(rows[is_equal], kinds[is_equal], np.ones(int(is_equal.sum())))
    return shared


def _near_copies(turns: Turns) -> _Shared:
    """What is shared of turns of FEWEST_WORDS or more words."""
    parts = list(turns.pairs(turns.is_scored))
    starts = np.cumsum([0, *(size for part in parts for size in part.sizes)])
    rows = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    texts = WordPairs(rows, hashes, starts)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(texts.hashes))])
    shared = _Shared(turns, rows, np.diff(sums[starts]))
    index = NearCopyIndex(texts.chosen(shared.positions))
    is_searched = (turns.splits == TRAIN) | turns.is_scored
    for searched in turns.pairs(is_searched):
        found = index.find(searched)
        index.forget(shared.add(searched.rows[found.queries], found.twins, found.similarities))
    return shared
