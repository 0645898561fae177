"""Words: divides texts in columns into words, and counts them."""

import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.arrays import number_array, numbers_of

# Scripts that are written without spaces: each character counts as a word.
CHARACTER = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}']+"
_IN_WORDS = string.ascii_letters + string.digits + "'"
# The same for ASCII: lower case, and a space for each other character. It takes a tenth of the time.
_ASCII = bytes(i if i > 127 else ord(chr(i).lower() if chr(i) in _IN_WORDS else " ") for i in range(256))


def words_of(texts: pa.Array) -> pa.ListArray:
    """The words of each text in lower case: runs of letters, digits and apostrophes."""
    is_ascii = pc.string_is_ascii(texts)
    spaced = _ascii_spaced(texts)
    others = number_array(np.flatnonzero(~numbers_of(is_ascii)))
    if len(others):
        spaced = pc.replace_with_mask(spaced, pc.invert(is_ascii), _spaced(texts.take(others)))
    return pc.ascii_split_whitespace(spaced)


def _ascii_spaced(texts: pa.StringArray) -> pa.StringArray:
    """ASCII texts in lower case, with a space for each character between words."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = memoryview(texts.buffers()[2] or b"")[offsets[0] : offsets[-1]]
    starts = pa.py_buffer(offsets - offsets[0])
    return pa.StringArray.from_buffers(len(texts), starts, pa.py_buffer(bytes(data).translate(_ASCII)))


def _spaced(texts: pa.StringArray) -> pa.StringArray:
    """Texts in lower case, with a space between words."""
    characters = pc.replace_substring_regex(pc.utf8_lower(texts), CHARACTER, r" \1 ")
    return pc.replace_substring_regex(characters, BETWEEN_WORDS, " ")


def count_words(words: pa.StringArray) -> dict[str, int]:
    """How often each word occurs; the empty text is no word."""
    found = pc.value_counts(words)
    values, counts = found.field("values").to_pylist(), found.field("counts").to_pylist()
    return {word: count for word, count in zip(values, counts, strict=True) if word}
