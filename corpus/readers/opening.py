"""Opening: opens a file of a corpus for reading, and decompresses it if it is compressed."""

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, cast

from corpus.layout import MEMBERS, TABLES

SAMPLE_BYTES = 1 << 16  # the beginning of a file, from which its encoding and its format are detected

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
DAMAGE_ERRORS = (EOFError, OSError, zlib.error)
"""The exceptions that reading a damaged or truncated compressed file raises."""


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading; one that is compressed with gzip or Zstandard is decompressed.

    The two Cornell files are text, whatever bytes they begin with.

    Raises:
        OSError: the file cannot be opened.
    """
    file = cast(io.BufferedReader, path.open("rb", buffering=SAMPLE_BYTES))
    return file if path.name in (*MEMBERS, *TABLES) else decompressed(file)


def decompressed(file: IO[bytes]) -> io.BufferedReader:
    """A reader of the decompressed bytes of `file`, which must be at its beginning.

    If the file is damaged, reading raises one of `DAMAGE_ERRORS`.
    """
    buffered = cast(io.BufferedReader, file)
    if not isinstance(file, io.BufferedReader):
        buffered = io.BufferedReader(cast(io.RawIOBase, file), SAMPLE_BYTES)
    start = buffered.peek(4)[:4]
    if start.startswith(GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=buffered)), SAMPLE_BYTES)
    if start == ZSTANDARD:
        import pyarrow as pa  # takes a third of a second, and few files need it

        stream = pa.CompressedInputStream(pa.PythonFile(buffered, "r"), "zstd")
        return io.BufferedReader(stream, SAMPLE_BYTES)
    return buffered


def sample_of(file: io.BufferedReader, size_bytes: int = SAMPLE_BYTES) -> bytes:
    """The first bytes of a file: at most `size_bytes`, and fewer only if the file is shorter or damaged.

    Raises:
        EOFError, OSError, zlib.error: a compressed file is damaged at its beginning.
    """
    parts, wanted = [], size_bytes
    try:
        while wanted and (part := file.read(wanted)):
            parts.append(part)
            wanted -= len(part)
    except DAMAGE_ERRORS:
        if not parts:
            raise
    return b"".join(parts)
