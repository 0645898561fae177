"""Cornell: reads lines from movie_lines.txt, and the order of these lines from movie_conversations.txt."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from corpus.layout import MEMBERS, SEPARATOR, TABLES
from corpus.readers.encodings import LINE_BYTES, LineReader, count_lines
from corpus.readers.rejects import Rejects
from corpus.readers.turns import Conversation, Turn

# Each id is enclosed in single or double quotes. Ids are separated by commas, or by whitespace alone, as in
# an array printed by numpy.
_QUOTED_ID = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_ID_LIST = re.compile(rf"\[\s*{_QUOTED_ID}(?:(?:\s*,\s*|\s+){_QUOTED_ID})*\s*,?\s*\]")


def read_records(
    path: Path, reader: LineReader, rejects: Rejects, fields: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each well-formed line, that is, a line with exactly `fields` fields.

    A line whose last field is empty is accepted even if its last separator lacks the trailing space.

    Raises:
        TooManyRejects: the share of unusable lines is larger than `rejects` allows.
    """
    for number, (text, is_whole) in enumerate(reader.lines(path), 1):
        rejects.lines_read += 1
        if not is_whole:
            rejects.add(path.name, number, f"longer than {LINE_BYTES:,} bytes", text)
            continue
        if not text.strip():
            continue
        if path.name.lower() in TABLES:
            text = _as_original(text, fields)
        parts = text.split(SEPARATOR, fields - 1)
        if len(parts) == fields - 1 and text.endswith(SEPARATOR.rstrip()):
            parts = [*parts[:-1], parts[-1].removesuffix(SEPARATOR.rstrip()).rstrip(), ""]
        if len(parts) == fields:
            yield number, parts
        else:
            rejects.add(path.name, number, f"{len(parts)} fields, not {fields}", text)


def _as_original(text: str, fields: int) -> str:
    """A line of a table in the form of the original files. A line that has quotes is in quotes as a whole."""
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = text[1:-1].replace('""', '"')
    return SEPARATOR.join(text.split("\t", fields - 1))


def read_lines(path: Path, reader: LineReader, rejects: Rejects) -> dict[str, tuple[str, str, str]]:
    """The speaker id, movie id and text of each line, by line id. An exact repetition of a line is ignored.

    Raises:
        TooManyRejects: the share of unusable lines is larger than `rejects` allows.
    """
    lines: dict[str, tuple[str, str, str]] = {}
    for number, (line_id, speaker, movie, _, text) in read_records(path, reader, rejects, fields=5):
        line = (speaker.strip(), movie.strip(), text)
        if lines.setdefault(line_id.strip(), line) != line:
            rejects.add(path.name, number, "this line id is already used by another line", line_id)
    return lines


def parse_line_ids(field: str) -> list[str] | None:
    """The ids in a list such as `['L194', 'L195']`; None for anything else. Nothing is evaluated as code.

    The list may be quoted as in a CSV file: enclosed in double quotes, with every inner double quote doubled.
    """
    text = field.strip()
    if text.startswith('"') and text.endswith('"'):
        text = text[1:-1].replace('""', '"').strip()
    if not _ID_LIST.fullmatch(text):
        return None
    return [quoted[1:-1].strip() for quoted in re.findall(_QUOTED_ID, text)]


def paths_in(files: Mapping[str, Path]) -> tuple[Path, Path] | None:
    """The paths of the lines and of the conversations; None if these files are not the two of the corpus."""
    return next(((files[a], files[b]) for a, b in (MEMBERS, TABLES) if a in files and b in files), None)


def count_all_lines(paths: tuple[Path, Path]) -> int:
    """An upper bound on the number of lines in the two files."""
    return sum(map(count_lines, paths))


def read_conversations(
    paths: tuple[Path, Path], reader: LineReader, rejects: Rejects
) -> Iterator[Conversation]:
    """Yield the conversations, each with its turns in the order in which they were spoken.

    Raises:
        TooManyRejects: the share of unusable lines is larger than `rejects` allows.
    """
    lines_path, conversations_path = paths
    lines = read_lines(lines_path, reader, rejects)
    file = conversations_path.name
    for number, (_, _, movie, field) in read_records(conversations_path, reader, rejects, fields=4):
        ids = parse_line_ids(field)
        if ids is None:
            rejects.add(file, number, "not a list of line ids", field)
            continue
        if unknown := list(islice((i for i in ids if i not in lines), 10)):
            rejects.add(file, number, "refers to a line that does not exist", ", ".join(unknown))
            continue
        turns = [Turn(speaker, text) for speaker, _, text in map(lines.__getitem__, ids)]
        yield Conversation(ids[0], turns, movie.strip())  # the id of a conversation is that of its first line
