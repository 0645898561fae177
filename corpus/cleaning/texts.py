"""Texts: prepares a column of texts for the model; each different text is prepared once."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpus.arrays import number_array, numbers_of, text_array
from corpus.cleaning.config import CleanConfig
from models.text.redaction import KINDS, changing_pattern, prepare, redact

WITHOUT_LETTERS = "turns with no letter left"


def prepare_texts(
    column: pa.Array, config: CleanConfig, counts: Counter[str]
) -> tuple[list[str], NDArray[np.int32]]:
    """The different texts as the model reads them, and for each row the number of its text in this list.

    Args:
        counts: the numbers of replaced items of personal data and of texts that lose all their letters.
    """
    distinct, numbers = _encoded(column)
    texts: list[str] = distinct.to_pylist()
    uses = np.bincount(numbers, minlength=len(texts))
    pattern = changing_pattern(config.normalisation, config.redaction)
    without_letters = 0
    for i in np.flatnonzero(numbers_of(pc.match_substring_regex(distinct, pattern))):
        raw = texts[i]
        texts[i], replaced = prepare(raw, style=config.normalisation, redaction=config.redaction)
        for kind, count in replaced.items():
            counts[f"{KINDS[kind]} replaced"] += count * int(uses[i])
        if texts[i] != raw and _has_letter(raw) and not _has_letter(texts[i]):
            without_letters += int(uses[i])
    counts[WITHOUT_LETTERS] += without_letters
    return texts, numbers


def prepare_speakers(column: pa.Array, config: CleanConfig) -> pa.Array:
    """The names of speakers as they are stored. In chat exports, a name may be a phone number."""
    if config.redaction == "none":
        return column
    distinct, numbers = _encoded(column)
    return text_array([redact(name)[0] for name in distinct.to_pylist()]).take(number_array(numbers))


def prepare_system_texts(column: pa.Array, config: CleanConfig, counts: Counter[str]) -> pa.Array:
    """The system texts as the model reads them; the items of personal data that are replaced are counted."""
    own = Counter[str]()
    texts, numbers = prepare_texts(column, config, own)
    counts.update({kind: count for kind, count in own.items() if kind != WITHOUT_LETTERS and count})
    return text_array(texts).take(number_array(numbers))


def _encoded(column: pa.Array) -> tuple[pa.Array, NDArray[np.int32]]:
    encoded = column.dictionary_encode()
    return encoded.dictionary, numbers_of(encoded.indices)


def _has_letter(text: str) -> bool:
    return any(map(str.isalpha, text))
