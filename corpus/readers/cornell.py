"""Cornell: reads lines from movie_lines.txt, and the order of these lines from movie_conversations.txt."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.layout import CONVERSATIONS, LINES, SEPARATOR
from corpus.readers.encodings import LINE_BYTES, LineReader
from corpus.readers.rejects import Rejects
from models.data.schemas import TURNS

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
        parts = text.split(SEPARATOR, fields - 1)
        if len(parts) == fields - 1 and text.endswith(SEPARATOR.rstrip()):
            parts = [*parts[:-1], parts[-1].removesuffix(SEPARATOR.rstrip()).rstrip(), ""]
        if len(parts) == fields:
            yield number, parts
        else:
            rejects.add(path.name, number, f"{len(parts)} fields, not {fields}", text)


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


def read_turns(folder: Path, reader: LineReader, rejects: Rejects) -> pa.Table:
    """A table with the schema TURNS: each conversation's turns in the order in which they were spoken.

    Raises:
        TooManyRejects: the share of unusable lines is larger than `rejects` allows.
    """
    lines = read_lines(folder / LINES, reader, rejects)
    columns: dict[str, list[Any]] = {name: [] for name in TURNS.names}
    first_ids: Counter[str] = Counter()
    for number, (_, _, movie, field) in read_records(folder / CONVERSATIONS, reader, rejects, fields=4):
        ids = parse_line_ids(field)
        if ids is None:
            rejects.add(CONVERSATIONS, number, "not a list of line ids", field)
            continue
        if unknown := list(islice((i for i in ids if i not in lines), 10)):
            rejects.add(CONVERSATIONS, number, "refers to a line that does not exist", ", ".join(unknown))
            continue
        # The id of a conversation is the id of its first line. If several conversations begin with the same
        # line, the ids of all but the first get a number.
        first_ids[ids[0]] += 1
        conversation = ids[0] if first_ids[ids[0]] == 1 else f"{ids[0]}-{first_ids[ids[0]]}"
        for turn, line_id in enumerate(ids):
            speaker, _, text = lines[line_id]
            values = (conversation, turn, speaker, text, movie.strip())
            for name, value in zip(TURNS.names, values, strict=True):
                columns[name].append(value)
    return pa.table(columns, schema=TURNS)
