"""JSON values: reads the records of a JSON file one after another, whatever the file's outer form.

The records of a file are its lines (JSON Lines), values that follow one another over several lines, the
elements of one array, or the values of one object. Only one record is in memory at once.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from corpus.readers.encodings import Line, LineReader

RECORD_BYTES = 1 << 26  # a longer record is rejected, so that memory stays bounded
SAMPLE_CHARACTERS = 1 << 20
TRIED_LINES = 20  # so many lines at most decide whether each line is a value
MARGIN = 16  # an error this close to the end of what has been read may be caused by that end
_WHITESPACE = " \t\r\n\f\v\0\ufeff"
_BLANK = re.compile(f"[{_WHITESPACE}]*")

# Python's decoder accepts NaN and Infinity; if a key occurs twice in an object, the last value counts.
_DECODER = json.JSONDecoder()


class Record(NamedTuple):
    """One value of a file."""

    line: int
    """The line on which the value begins, counted from 1."""
    value: Any
    key: str = ""
    """The value's key, if the values of an object are the records."""
    raw: str = ""
    """The value's text, or its beginning."""


class Malformed(NamedTuple):
    """Text that is not JSON."""

    line: int
    cause: str
    raw: str
    ends_file: bool = False
    """Whether the rest of the file cannot be read either."""
    lines: int = 1
    """The number of lines that it takes up."""


def read_json(
    path: Path, reader: LineReader, is_record: Callable[[Any], bool], *, by_line: bool
) -> Iterator[Record | Malformed]:
    """Yield the records of a JSON file.

    Args:
        is_record: whether an object is a record itself, and not a collection of records by their keys.
        by_line: whether each line is a value, from `has_a_value_per_line`.
    """
    reader.line_bytes = RECORD_BYTES
    if by_line:
        yield from _read_lines(path, reader)
        return
    scanner = _Scanner(reader.pieces(path))
    try:
        yield from _read_document(scanner, is_record)
    except (ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        yield Malformed(scanner.line, cause, scanner.ahead(200), ends_file=True)


def has_a_value_per_line(path: Path, reader: LineReader) -> bool:
    """Whether a file is JSON Lines; otherwise a value may extend over several lines."""
    return is_json_lines(_beginning(path, reader))


def is_json_lines(sample: str) -> bool:
    """Whether each line of the file that begins with `sample` is a JSON value of its own."""
    lines = re.split(r"\r\n|\r|\n", sample)  # U+2028 and the like may stand in a value
    if len(sample) >= SAMPLE_CHARACTERS:
        del lines[-1]  # it is not complete
    lines = [line for line in lines if line.strip(_WHITESPACE)][:TRIED_LINES]
    return len(lines) > 1 and sum(_decoded(line) is not None for line in lines) > len(lines) / 2


def _decoded(line: str) -> Any:
    """The object, array or string in a line; None if the line is something else."""
    try:
        value = _DECODER.decode(line.strip(_WHITESPACE))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list | str) else None


def _beginning(path: Path, reader: LineReader) -> str:
    text = ""
    for piece in reader.pieces(path):
        text += piece
        if len(text) >= SAMPLE_CHARACTERS:
            break
    return text[:SAMPLE_CHARACTERS]


def _read_lines(path: Path, reader: LineReader) -> Iterator[Record | Malformed]:
    for number, line in enumerate(reader.lines(path), 1):
        if line.text.strip(_WHITESPACE):
            yield _read_line(number, line)


def _read_line(number: int, line: Line) -> Record | Malformed:
    if not line.is_whole:
        return Malformed(number, f"longer than {RECORD_BYTES:,} bytes", line.text[:200])
    try:
        return Record(number, _DECODER.decode(line.text.strip(_WHITESPACE)), raw=line.text[:200])
    except RecursionError:
        return Malformed(number, "nested too deeply", line.text[:200])
    except ValueError as error:
        return Malformed(number, f"not JSON ({_reason(error)})", line.text[:200])


def _read_document(scanner: "_Scanner", is_record: Callable[[Any], bool]) -> Iterator[Record | Malformed]:
    while scanner.next_character():
        if scanner.next_character() == "[":
            yield from _read_array(scanner)
        elif _is_collection(scanner, is_record):
            yield from _read_object(scanner)
        else:
            yield scanner.record()
        scanner.skip(",")


def _read_array(scanner: "_Scanner") -> Iterator[Record]:
    scanner.expect("[")
    while scanner.next_character() not in ("]", ""):
        yield scanner.record()
        if not scanner.skip(","):
            break
    scanner.expect("]")


def _read_object(scanner: "_Scanner") -> Iterator[Record]:
    scanner.expect("{")
    while scanner.next_character() not in ("}", ""):
        key = scanner.record().value
        scanner.expect(":")
        yield scanner.record()._replace(key=str(key))
        if not scanner.skip(","):
            break
    scanner.expect("}")


def _is_collection(scanner: "_Scanner", is_record: Callable[[Any], bool]) -> bool:
    """Whether the object that comes next maps keys to records; a long one is judged by its first entry."""
    if scanner.next_character() != "{":
        return False
    with scanner.rewound():
        try:
            entries = scanner.record(max_characters=SAMPLE_CHARACTERS).value
        except (ValueError, RecursionError):
            entries = None
    if entries is None:
        with scanner.rewound():
            scanner.expect("{")
            key = scanner.record().value
            scanner.expect(":")
            entries = {key: scanner.record().value if scanner.next_character() in ("{", "[") else None}
    is_nested = all(isinstance(value, dict | list) for value in entries.values())
    return bool(entries) and is_nested and not is_record(entries)


class _Scanner:
    """The text of a file, of which only the part that has not been used yet is in memory."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self._position = pieces, "", 0
        self.line = 1
        self._keeps_text = False

    def next_character(self) -> str:
        """The next character that is not whitespace; "" at the end of the file."""
        while True:
            blank = _BLANK.match(self._text, self._position)
            self._advance(len(blank[0]) if blank else 0)
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_more():
                return ""

    def expect(self, character: str) -> None:
        """Consume this character.

        Raises:
            ValueError: another one comes next.
        """
        if not self.skip(character):
            found = self.next_character()
            what = f"{found!r} comes where {character!r} should be" if found else "the file ends too early"
            raise ValueError(f"not complete JSON ({what})")

    def skip(self, character: str) -> bool:
        """Consume this character if it comes next, and return whether it did."""
        if self.next_character() != character:
            return False
        self._advance(1)
        return True

    def record(self, max_characters: int = RECORD_BYTES) -> Record:
        """Decode the value that comes next.

        Raises:
            ValueError: the value is not JSON, is incomplete, or is longer than `max_characters`.
        """
        self.next_character()
        while True:
            line, start = self.line, self._position
            try:
                value, end = _DECODER.raw_decode(self._text, start)
            except json.JSONDecodeError as error:
                at_end = error.pos >= len(self._text) - MARGIN or error.msg.startswith("Unterminated")
                if at_end and len(self._text) - start > max_characters:
                    raise ValueError(f"longer than {max_characters:,} characters") from None
                if at_end and self._read_more(double=True):
                    continue
                is_cut = error.pos >= len(self._text.rstrip()) or error.msg.startswith("Unterminated")
                what = "the file ends inside a value" if is_cut else _reason(error)
                raise ValueError(f"not complete JSON ({what})") from None
            # A number at the end of the text may continue in the next piece.
            if end == len(self._text) and self._read_more():
                continue
            raw = self._text[start : min(end, start + 200)]
            self._advance(end - start)
            return Record(line, value, raw=raw)

    def ahead(self, characters: int) -> str:
        """The text that comes next."""
        return self._text[self._position : self._position + characters]

    def rewound(self) -> "_Rewound":
        """A context after which everything that was consumed inside it comes again."""
        return _Rewound(self)

    def _advance(self, characters: int) -> None:
        self.line += self._text.count("\n", self._position, self._position + characters)
        self._position += characters

    def _read_more(self, *, double: bool = False) -> bool:
        """Read the next piece, or as much again as is in memory; return whether there was any text."""
        if not self._keeps_text:
            self._text, self._position = self._text[self._position :], 0
        wanted, parts = len(self._text) if double else 1, []
        while wanted > 0 and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            wanted -= len(piece)
        self._text += "".join(parts)
        return bool(parts)


class _Rewound:
    def __init__(self, scanner: _Scanner) -> None:
        self._scanner = scanner

    def __enter__(self) -> None:
        self._position, self._line = self._scanner._position, self._scanner.line
        self._scanner._keeps_text = True

    def __exit__(self, *_: object) -> None:
        self._scanner._position, self._scanner.line = self._position, self._line
        self._scanner._keeps_text = False


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    return str(error)
