"""Forgotten conversations: which conversations of a corpus the stage `clean` leaves out, by ids and speakers.

An entry is an id as the source has it, which counts in every source, or `SOURCE/ID`, which counts in the
source of this name, whether the source is alone or part of a mix. All paths of a reply tree are forgotten
together, because they share turns.

A conversation is also forgotten if its texts are those of a conversation that was put on the list, whatever
its id is now. If the id of a conversation is only its place in a file, such as `mine.csv:12`, nothing but its
texts counts: after a line is added before it, the id belongs to another conversation.
"""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of
from corpus.cleaning.conversations import first_rows
from corpus.cleaning.copies import part_digests, text_digests

FORGOTTEN = "conversations that are forgotten"
PATH = re.compile(r"/path \d+\Z")  # how the readers name the later paths of a reply tree
POSITION = re.compile(r".+:\d+\Z", re.DOTALL)  # how the readers name a conversation that has no id


class Forgotten(NamedTuple):
    """The entries of the list, and the names of the sources to which they apply."""

    conversations: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()
    """Every conversation with a turn of one of these speakers is forgotten."""
    sources: tuple[str, ...] = ()
    """If there are several, the ids of the conversations begin with the name of their source and a slash."""
    texts: frozenset[str] = frozenset()
    """Digests of the texts of conversations (`conversation_digests`)."""

    @property
    def is_empty(self) -> bool:
        return not (self.conversations or self.speakers or self.texts)

    @property
    def identity(self) -> str:
        """A digest of everything that decides which conversations are forgotten; "" if the list is empty."""
        if self.is_empty:
            return ""
        names = [self.conversations, self.speakers, self.sources, *([self.texts] if self.texts else [])]
        text = json.dumps([sorted(each) for each in names])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def rows(self, turns: pa.Table) -> NDArray[np.bool_]:
        """Whether each turn belongs to a forgotten conversation.

        Args:
            turns: the rows of whole conversations in their order, with the columns `conversation_id` and
                `speaker` of the schema TURNS, and `text` if there are digests of texts.
        """
        if self.is_empty or not turns.num_rows:
            return np.zeros(turns.num_rows, bool)
        starts = first_rows(turns)
        ids = turns["conversation_id"].combine_chunks().take(number_array(starts)).to_pylist()
        names = [self._source_and_id(name) for name in ids]
        sizes = np.diff([*starts, turns.num_rows])
        listed = {source: _in_source(self.conversations, source) for source in {each for each, _ in names}}
        is_forgotten = np.array([PATH.sub("", own) in listed[source] for source, own in names], bool)
        if self.speakers:
            is_forgotten |= self._with_speaker(turns, [source for source, _ in names], sizes)
        if self.texts:
            is_forgotten |= np.array([each in self.texts for each in conversation_digests(turns)], bool)
        return np.repeat(is_forgotten, sizes)

    def without(self, turns: pa.Table) -> pa.Table:
        """The turns of the other conversations."""
        is_forgotten = self.rows(turns)
        return turns.take(number_array(np.flatnonzero(~is_forgotten))) if is_forgotten.any() else turns

    def _with_speaker(
        self, turns: pa.Table, sources: Sequence[str], sizes: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether each conversation has a turn of a forgotten speaker."""
        encoded = turns["speaker"].combine_chunks().dictionary_encode()
        speakers: list[str] = encoded.dictionary.to_pylist()
        of_row = numbers_of(encoded.indices)
        conversations = np.repeat(np.arange(len(sizes)), sizes)
        has_speaker = np.zeros(len(sizes), bool)
        source_of = np.array(sources)
        for source in set(sources):
            names = _in_source(self.speakers, source)
            is_named = np.array([speaker in names for speaker in speakers], bool)
            found = np.unique(conversations[is_named[of_row]])
            has_speaker[found[source_of[found] == source]] = True
        return has_speaker

    def _source_and_id(self, conversation: str) -> tuple[str, str]:
        if len(self.sources) < 2:
            return (self.sources[0] if self.sources else ""), conversation
        source, _, own_id = conversation.partition("/")
        return source, own_id


NOTHING = Forgotten()


def conversation_digests(turns: pa.Table) -> list[str]:
    """A digest of the texts of each conversation.

    Args:
        turns: the rows of whole conversations in their order, with the columns `conversation_id` and `text`.
    """
    starts = np.append(first_rows(turns), turns.num_rows)
    return [digest.tobytes().hex() for digest in part_digests(text_digests(turns), starts)]


def _in_source(names: frozenset[str], source: str) -> Collection[str]:
    prefix = f"{source}/"
    return names | {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
