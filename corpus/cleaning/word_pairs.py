"""Word pairs: a hash of each two neighbouring words of a text, for a whole column of texts at once.

A word is a run of letters, digits and apostrophes in lower case. Chinese and Japanese have no spaces, so each
of their characters is a word. The characters of Thai, Lao, Khmer and Burmese are letters, of which a handful
says nothing: there, a word is what stands between two spaces.

The hash of a word is a polynomial of its characters modulo 2^64. It is computed from arrays of all
characters, because a Python string for each word of a corpus takes ten times as long.
"""

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of

CHARACTERS = 0x10000  # all later characters, most of which are emoji, separate words
CHARACTER_IS_WORD = (
    (0x3040, 0x30FF),  # Hiragana and Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Chinese characters, with those in the next row
    (0xF900, 0xFAFF),
)
FIRST_POWERS = 1 << 18
_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_PAIR_MULTIPLIER = np.uint64(0xA24BAED4963EE407)
_HALF = np.uint64(32)

Hashes = NDArray[np.uint64]


class WordPairs(NamedTuple):
    """The pairs of neighbouring words of some texts."""

    rows: NDArray[np.int64]
    """The rows of these texts: those with enough words."""
    hashes: Hashes
    """The hashes of their pairs, one text after another."""
    starts: NDArray[np.int64]
    """The position of the first pair of each text in `hashes`, and at the end the number of pairs."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of pairs of each text, which is one less than the number of its words."""
        return np.diff(self.starts)

    def chosen(self, texts: NDArray[np.int64]) -> "WordPairs":
        """The pairs of some of these texts, in another order; `texts` has their positions in `rows`."""
        positions, starts = spans(self.starts, texts)
        return WordPairs(self.rows[texts], self.hashes[positions], starts)


def word_pairs(texts: pa.StringArray, fewest_words: int) -> WordPairs:
    """The pairs of neighbouring words of each text that has at least `fewest_words` words (2 or more)."""
    # So many words have at least so many bytes, since a byte separates two words that are not Chinese.
    long = np.flatnonzero(numbers_of(pc.binary_length(texts)) >= 2 * fewest_words - 1)
    words, starts = _word_hashes(texts.take(number_array(long)))
    rows = np.flatnonzero(np.diff(starts) >= fewest_words)
    # A text has one pair less than it has words: the last word of a text begins no pair.
    positions, pair_starts = spans(starts, rows, but_last=1)
    return WordPairs(long[rows], mix(words[positions] * _PAIR_MULTIPLIER + words[positions + 1]), pair_starts)


def spans(
    starts: NDArray[np.int64], rows: NDArray[np.int64], but_last: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions of what belongs to some rows, one row after another, and where each row then begins.

    Args:
        starts: the first position of each row, and at the end the number of positions.
        but_last: so many positions at the end of each row are left out.
    """
    sizes = starts[rows + 1] - starts[rows] - but_last
    new_starts = np.concatenate([[0], np.cumsum(sizes)])
    return np.arange(new_starts[-1]) + np.repeat(starts[rows] - new_starts[:-1], sizes), new_starts


def text_keys(texts: pa.StringArray) -> Hashes:
    """A hash of each text, for example to order conversations by their ids instead of by their arrival."""
    data, starts = _bytes_of(texts)
    if not data:
        return np.zeros(len(texts), np.uint64)
    powers, inverses = _powers(len(data))
    terms = (np.frombuffer(data, np.uint8) + np.uint64(1)) * powers[: len(data)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return mix(np.diff(sums[starts]) * inverses[np.minimum(starts[:-1], len(data) - 1)])


def mix(hashes: Hashes) -> Hashes:
    """Hashes of which each bit depends on all bits of the given ones."""
    mixed = (hashes ^ (hashes >> _HALF)) * _MULTIPLIER
    return mixed ^ (mixed >> _HALF)


def _word_hashes(texts: pa.StringArray) -> tuple[Hashes, NDArray[np.int64]]:
    """A hash of each word, and the position of each text's first word; at the end the number of words."""
    lower = pc.utf8_lower(texts)
    data, starts = _bytes_of(lower)
    if data.isascii():
        characters = np.frombuffer(data, np.uint8)
    else:
        points = np.frombuffer(data.decode().encode("utf-32-le"), np.uint32)
        characters = np.minimum(points, CHARACTERS)
        starts = np.concatenate([[0], np.cumsum(numbers_of(pc.utf8_length(lower)), dtype=np.int64)])
    kinds, terms = _tables()
    kind = kinds[characters]
    begins = kind > 0
    begins[1:] &= (kind[1:] != 1) | (kind[:-1] != 1)
    first = starts[:-1][starts[:-1] < len(kind)]
    begins[first] = kind[first] > 0
    words = np.flatnonzero(begins)
    if not len(words):
        return np.zeros(0, np.uint64), np.zeros(len(texts) + 1, np.int64)
    powers, inverses = _powers(len(kind))
    # What separates words has the term 0, so a sum up to the next word is the sum of one word.
    sums = np.add.reduceat(terms[characters] * powers[: len(kind)], words)
    return mix(sums * inverses[words]), np.searchsorted(words, starts)


def _bytes_of(texts: pa.StringArray) -> tuple[bytes, NDArray[np.int64]]:
    """The UTF-8 bytes of the texts, one after another, and where each begins; at the end their number."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    span = memoryview(data)[offsets[0] : offsets[-1]] if data else b""
    return bytes(span), (offsets - offsets[0]).astype(np.int64)


@lru_cache(1)
def _tables() -> tuple[NDArray[np.uint8], Hashes]:
    """For each character, its kind and its term in the hash of a word.

    The kinds are 0 for what separates words, 1 for a part of a word and 2 for a character that is a word.
    """
    characters = [chr(i) for i in range(CHARACTERS)]
    kinds = np.zeros(CHARACTERS + 1, np.uint8)
    kinds[:-1] = [each.isalnum() or unicodedata.category(each)[0] == "M" for each in characters]
    kinds[ord("'")] = 1
    for start, last in CHARACTER_IS_WORD:
        kinds[start : last + 1] *= 2
    terms = mix(np.arange(1, CHARACTERS + 2, dtype=np.uint64))
    terms[kinds == 0] = 0
    return kinds, terms


def _powers(number: int) -> tuple[Hashes, Hashes]:
    """At least `number` powers of the base of the polynomials, and their inverses, modulo 2^64."""
    return _powers_up_to(max(FIRST_POWERS, 1 << number.bit_length()))


@lru_cache(1)
def _powers_up_to(number: int) -> tuple[Hashes, Hashes]:
    bases = np.uint64(_BASE), np.uint64(pow(_BASE, -1, 1 << 64))
    first, second = (np.multiply.accumulate(np.full(number, base)) for base in bases)
    return first, second
