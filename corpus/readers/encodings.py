"""Encodings: reads the lines of a text file in any common encoding, with any line endings.

UTF-16 and UTF-32 are recognised for the file as a whole. In any other file each line is decoded separately:
as UTF-8 if the line is valid UTF-8, and otherwise as Windows-1252, the encoding of the original corpus.
"""

import codecs
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from corpus.readers.opening import SAMPLE_BYTES, open_file

LINE_BYTES = 1 << 20  # a longer line cannot be an utterance, so only its beginning is kept

# The Windows-1252 character for each byte. The five bytes that Windows-1252 does not define are read as
# Latin-1, so that no byte is lost.
WINDOWS_1252 = "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256))
_FROM_LATIN_1 = dict(enumerate(WINDOWS_1252))
_TO_WINDOWS_1252 = codecs.charmap_build(WINDOWS_1252)

# UTF-32 comes first, because the mark of little-endian UTF-32 begins with that of little-endian UTF-16.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

PIECE_BYTES = 1 << 18
AS_WINDOWS_1252 = "as-windows-1252"


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Handle a decoding error: the invalid bytes are read as Windows-1252."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    invalid = error.object[error.start : error.end]
    return invalid.decode("latin-1").translate(_FROM_LATIN_1), error.end


codecs.register_error(AS_WINDOWS_1252, _as_windows_1252)


class Line(NamedTuple):
    """One line of a file, without its line ending."""

    text: str
    is_whole: bool
    """False if the line is longer than `LINE_BYTES`, in which case `text` holds only its beginning."""


@dataclass
class LineReader:
    """Reads files line by line, and counts the lines in each encoding."""

    encodings: Counter[str] = field(default_factory=Counter)
    """The number of lines in each encoding. Pure ASCII lines count as `ascii`, unless the file is UTF-16
    or UTF-32."""
    line_bytes: int = LINE_BYTES
    """The largest size of a line. Only the beginning of a longer line is returned."""

    def lines(self, path: Path) -> Iterator[Line]:
        """Yield each line of a file. Only one line (or the beginning of a long one) is in memory at once."""
        with open_file(path) as file:
            sample = file.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]
            encoding, mark_size_bytes = encoding_of(sample)
            file.read(mark_size_bytes)
            for raw, is_whole in _bounded_lines(_read_pieces(file, sample, encoding, self.line_bytes)):
                yield Line(self._decode(raw.rstrip(b"\r\n"), encoding), is_whole)

    def pieces(self, path: Path) -> Iterator[str]:
        """Yield the text of a file in pieces, without regard to its lines. Lines are not counted.

        A byte that is not valid in the file's encoding is read as Windows-1252.
        """
        with open_file(path) as file:
            encoding, mark_size_bytes = encoding_of(file.peek(SAMPLE_BYTES)[:SAMPLE_BYTES])
            file.read(mark_size_bytes)
            decoder = codecs.getincrementaldecoder(encoding or "utf-8")(AS_WINDOWS_1252)
            while piece := file.read(PIECE_BYTES):
                yield decoder.decode(piece)
            yield decoder.decode(b"", final=True)

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
        return text


def count_lines(path: Path) -> int:
    """An upper bound on the number of lines (in UTF-16, one byte of a character may look like a line end)."""
    with open_file(path) as file:
        end = _line_end(file.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]).encode()
        return 1 + sum(chunk.count(end) for chunk in iter(lambda: file.read(LINE_BYTES), b""))


def is_mojibake(text: str) -> bool:
    """Whether the text is not pure ASCII and its Windows-1252 bytes are valid UTF-8, as with `â€™`."""
    if text.isascii():
        return False
    try:
        codecs.charmap_encode(text, "strict", _TO_WINDOWS_1252)[0].decode("utf-8")
    except UnicodeError:
        return False
    return True


def encoding_of(sample: bytes) -> tuple[str | None, int]:
    """Return the encoding (None if each line has its own) and the size of the byte order mark."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding, len(mark)
    if sample.startswith(codecs.BOM_UTF8):
        return None, len(codecs.BOM_UTF8)
    # UTF-16 without a byte order mark is recognised by its zero bytes: in Latin text, every other byte is 0.
    pairs = len(sample) // 2
    if pairs and sample[1::2].count(0) > 0.4 * pairs > sample[::2].count(0):
        return "utf-16-le", 0
    if pairs and sample[::2].count(0) > 0.4 * pairs > sample[1::2].count(0):
        return "utf-16-be", 0
    return None, 0


def describe_encoding(sample: bytes) -> tuple[str, str]:
    """The encoding of a text file that begins with `sample`, and what speaks for it."""
    encoding, mark_size_bytes = encoding_of(sample)
    if mark_size_bytes:
        return encoding or "utf-8", "it begins with a byte order mark"
    if encoding:
        return encoding, "every other byte is zero"
    if sample.isascii():
        return "ascii", f"the first {len(sample):,} bytes are ASCII"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError as error:
        return "windows-1252", f"byte {error.start + 1:,} (0x{sample[error.start]:02x}) is not valid UTF-8"
    return "utf-8", f"the first {len(sample):,} bytes are valid UTF-8, and not only ASCII"


def _read_pieces(file: BinaryIO, sample: bytes, encoding: str | None, line_bytes: int) -> Iterator[bytes]:
    """Yield the lines, long ones in pieces of `line_bytes`. UTF-16 and UTF-32 are re-encoded as UTF-8."""
    end = _line_end(sample)
    if encoding is None and end == "\n":
        yield from iter(lambda: file.readline(line_bytes), b"")
        return
    # Latin-1 is used only to find the line endings. Encoding the text as Latin-1 again restores every byte.
    with io.TextIOWrapper(file, encoding or "latin-1", errors="replace", newline=end) as text:
        for piece in iter(lambda: text.readline(line_bytes), ""):
            line_end = b"\n" if piece.endswith(end) else b""
            yield piece.removesuffix(end).encode("latin-1" if encoding is None else "utf-8") + line_end


def _line_end(sample: bytes) -> str:
    """The character that ends a line: a line feed, or a carriage return if the sample has no line feeds."""
    return "\r" if b"\r" in sample and b"\n" not in sample else "\n"


def _bounded_lines(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, cut to its beginning if it is too long, and whether it is complete."""
    for piece in pieces:
        is_whole, last = True, piece
        while not last.endswith(b"\n") and (following := next(pieces, None)) is not None:
            is_whole, last = False, following
        yield piece, is_whole
