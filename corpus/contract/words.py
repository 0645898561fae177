"""Words: divides texts in columns into words, and counts them."""

import pyarrow as pa
import pyarrow.compute as pc

# Scripts that are written without spaces: each character counts as a word.
CHARACTER = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}']+"


def words_of(texts: pa.Array) -> pa.ListArray:
    """The words of each text in lower case: runs of letters, digits and apostrophes."""
    lower = pc.utf8_lower(texts)
    spaced = pc.replace_substring_regex(lower, CHARACTER, r" \1 ")
    return pc.utf8_split_whitespace(pc.replace_substring_regex(spaced, BETWEEN_WORDS, " "))


def count_words(words: pa.StringArray) -> dict[str, int]:
    """How often each word occurs; the empty text is no word."""
    found = pc.value_counts(words)
    values, counts = found.field("values").to_pylist(), found.field("counts").to_pylist()
    return {word: count for word, count in zip(values, counts, strict=True) if word}
