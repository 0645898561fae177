"""Arrays: converts lists of texts and NumPy arrays to Arrow, and Arrow's numbers to NumPy.

`pyarrow.array` and `to_numpy` import pandas, which takes a third of a second.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray


def text_array(texts: Sequence[str]) -> pa.StringArray:
    """An array of texts. A lone surrogate, which UTF-8 cannot encode, becomes a question mark.

    Raises:
        pyarrow.ArrowInvalid: the texts have more than 2 GB together.
    """
    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise pa.ArrowInvalid(f"the texts have {offsets[-1]:,} bytes together")
    buffers = pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), *buffers)


def number_array(numbers: ArrayLike, kind: pa.DataType | None = None) -> pa.Array:
    """An array of numbers of an Arrow type (int32, int64, float32 or float64); by default of their own."""
    types = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float32(): np.float32, pa.float64(): np.float64}
    values = np.ascontiguousarray(numbers, types[kind] if kind else None)
    own = next(arrow for arrow, numpy in types.items() if values.dtype == numpy)
    return pa.Array.from_buffers(own, len(values), [None, pa.py_buffer(values)])


def numbers_of(array: pa.Array) -> NDArray[Any]:
    """The values of an array of numbers or of flags without nulls."""
    if pa.types.is_boolean(array.type):
        return np.from_dlpack(array.cast(pa.uint8())).view(bool)
    return np.from_dlpack(array)
