"""Encodings: the lines of a text file in any of the usual encodings, with any line ends.

UTF-16 and UTF-32 are recognised for the whole file. Any other file is read line by line: a line with a
multi-byte character that is valid UTF-8 is UTF-8, any other is Windows-1252, the corpus's own encoding.
"""

import codecs
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

LINE_BYTES = 1 << 20  # a longer line is no utterance: only its beginning is kept
SAMPLE_BYTES = 1 << 16  # at the beginning of a file, which show its encoding and line ends

# The character of each byte: in Windows-1252, or in Latin-1 for the five bytes that Windows-1252 does not
# define, so that no byte is lost.
WINDOWS_1252 = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256))
_FROM_LATIN_1 = dict(enumerate(WINDOWS_1252))
_BYTE_OF = {character: byte for byte, character in enumerate(WINDOWS_1252)}

# The marks of UTF-32 come first: its little-endian one begins with that of UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Line(NamedTuple):
    """One line of a file, without its end."""

    text: str
    is_whole: bool
    """False: the line is longer than `LINE_BYTES`, and `text` is its beginning."""


@dataclass
class LineReader:
    """Reads files line by line, and counts the encodings of the lines."""

    encodings: Counter[str] = field(default_factory=Counter)
    """The number of lines in each encoding; a line in ASCII is the same in all of them."""
    suspected_mojibake: int = 0
    """The number of lines that seem to be UTF-8, read as Windows-1252 and saved; they are not changed."""

    def lines(self, path: Path) -> Iterator[Line]:
        """Each line of a file. Memory holds one line at a time, and only the beginning of a very long one."""
        with path.open("rb") as file:
            sample = file.read(SAMPLE_BYTES)
            encoding, mark_size_bytes = _encoding_of(sample)
            file.seek(mark_size_bytes)
            for raw, is_whole in _bounded_lines(_read_pieces(file, sample, encoding)):
                yield Line(self._decode(raw.rstrip(b"\r\n"), encoding), is_whole)

    def _decode(self, raw: bytes, encoding: str | None) -> str:
        if raw.isascii():
            self.encodings["ascii" if encoding is None else encoding[:6]] += 1
            return raw.decode("ascii")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self.encodings["windows-1252"] += 1
            return raw.decode("latin-1").translate(_FROM_LATIN_1)
        self.encodings["utf-8" if encoding is None else encoding[:6]] += 1
        self.suspected_mojibake += is_mojibake(text)
        return text


def count_lines(path: Path) -> int:
    """An upper limit of the number of lines: in UTF-16 half of another character may equal a line end."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
        file.seek(0)
        end = _line_end(sample).encode()
        return 1 + sum(chunk.count(end) for chunk in iter(lambda: file.read(LINE_BYTES), b""))


def is_mojibake(text: str) -> bool:
    """Whether the text, saved as Windows-1252, would be valid UTF-8 with a multi-byte character: `â€™`."""
    if text.isascii():
        return False
    try:
        bytes(_BYTE_OF[character] for character in text).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return False
    return True


def _encoding_of(sample: bytes) -> tuple[str | None, int]:
    """(encoding of the whole file, size of its byte order mark). None: each line has its own encoding."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding, len(mark)
    if sample.startswith(codecs.BOM_UTF8):
        return None, len(codecs.BOM_UTF8)
    # Without a mark: in UTF-16 a text in Latin letters has a zero in almost every other byte.
    pairs = len(sample) // 2
    if pairs and sample[1::2].count(0) > 0.4 * pairs > sample[::2].count(0):
        return "utf-16-le", 0
    if pairs and sample[::2].count(0) > 0.4 * pairs > sample[1::2].count(0):
        return "utf-16-be", 0
    return None, 0


def _read_pieces(file: BinaryIO, sample: bytes, encoding: str | None) -> Iterator[bytes]:
    """Pieces of the file, each a line or `LINE_BYTES` of a longer one; UTF-16 and UTF-32 become UTF-8."""
    end = _line_end(sample)
    if encoding is None and end == "\n":
        yield from iter(lambda: file.readline(LINE_BYTES), b"")
        return
    # Latin-1 gives each byte back unchanged: it is only used to find the line ends.
    with io.TextIOWrapper(file, encoding or "latin-1", errors="replace", newline=end) as text:
        for piece in iter(lambda: text.readline(LINE_BYTES), ""):
            line_end = b"\n" if piece.endswith(end) else b""
            yield piece.removesuffix(end).encode("latin-1" if encoding is None else "utf-8") + line_end


def _line_end(sample: bytes) -> str:
    """The character that ends a line: a carriage return, as on old Macintoshes, if there is no line feed."""
    return "\r" if b"\r" in sample and b"\n" not in sample else "\n"


def _bounded_lines(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """(line, whether it is complete). Only the beginning of a line that is too long is kept in memory."""
    for piece in pieces:
        is_whole, last = True, piece
        while not last.endswith(b"\n") and (following := next(pieces, None)) is not None:
            is_whole, last = False, following
        yield piece, is_whole
