"""Words: counts the words of texts in columns, in a bounded amount of memory."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

DIFFERENT_WORDS = 1 << 15
# Scripts that are written without spaces: each character counts as a word.
CHARACTER = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}']+"


def words_of(texts: pa.Array) -> pa.ListArray:
    """The words of each text in lower case: runs of letters, digits and apostrophes."""
    lower = pc.utf8_lower(texts)
    spaced = pc.replace_substring_regex(lower, CHARACTER, r" \1 ")
    return pc.utf8_split_whitespace(pc.replace_substring_regex(spaced, BETWEEN_WORDS, " "))


class WordCounts:
    """Counts how often each word occurs; if there are too many different words, the rarest are forgotten."""

    def __init__(self, limit: int = DIFFERENT_WORDS) -> None:
        self.total = 0
        self._counts: Counter[str] = Counter()
        self._limit = limit

    def add(self, words: pa.Array) -> None:
        """Count words; the empty text is no word."""
        found = pc.value_counts(words)
        values, counts = found.field("values").to_pylist(), found.field("counts").to_pylist()
        new = {word: count for word, count in zip(values, counts, strict=True) if word}
        self.total += sum(new.values())
        self._counts.update(new)
        if len(self._counts) > 2 * self._limit:
            self._counts = Counter(dict(self._counts.most_common(self._limit)))

    @property
    def counts(self) -> Mapping[str, int]:
        return self._counts
