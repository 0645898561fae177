"""Speaker lines: reads conversations from lines such as `Ann: Hello.`, with or without dates before them.

A line without a speaker continues the turn before it. An empty line ends a conversation. In the export of a
chat program, where a turn begins with its time, a line without a time continues the turn, whatever it holds,
and a new day begins a conversation.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from corpus.readers.encodings import LineReader
from corpus.readers.messages import role_of, with_assistant
from corpus.readers.turns import Conversation, Turn

_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_HALF = r"(?:\s?[AaPp]\.?\s?[Mm]\.?)?"
_TIME = rf"\d{{1,2}}[:.]\d{{2}}(?:[:.]\d{{2}}(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d|{_HALF})"
_STAMP = re.compile(rf"\u200e?\[?(?P<date>{_DATE})?[,T]?\s*(?:{_TIME})\]?\s*(?:-\s*)?")
_SPEAKER = re.compile(
    r"(?P<speaker>[^\s:][^:\n]{0,39}?)\s?:(?:\s+|$)(?P<text>.*)|<(?P<nick>[^>\s]{1,40})>\s+(?P<rest>.*)",
    re.DOTALL,
)
MIN_LINES = 4
MIN_SHARE = 0.6  # of the lines that are not empty; the others continue a turn
TRIED_LINES = 1000  # so many lines at most decide whether each turn begins with its time
MAX_TURNS = 10_000  # a longer conversation is divided, so that memory stays bounded


class _Beginning(NamedTuple):
    """What a line begins with that begins a turn."""

    speaker: str
    text: str
    date: str
    """"" without a date."""
    has_time: bool


def is_dialogue(lines: list[str]) -> bool:
    """Whether most lines begin with a speaker, and some speakers speak more than once."""
    filled = [line for line in lines if line.strip()]
    speakers = Counter(found.speaker for line in filled if (found := _parsed(line)))
    again = [name for name, number in speakers.items() if number > 1]
    return (
        len(filled) >= MIN_LINES
        and speakers.total() >= MIN_SHARE * len(filled)
        and len(speakers) > 1
        and sum(speakers[name] for name in again) >= speakers.total() / 2
    )


def read_conversations(path: Path, reader: LineReader) -> Iterator[tuple[int, Conversation]]:
    """Yield the conversations, each with the number of its first line."""
    lines = (line.text for line in reader.lines(path))
    first = list(islice(lines, TRIED_LINES))
    beginnings = [found for line in first if (found := _parsed(line))]
    # A turn may have many lines that look like turns themselves, but they never come first.
    timed = sum(found.has_time for found in beginnings)
    is_timed = timed > len(beginnings) / 10 and beginnings[0].has_time
    turns: list[Turn] = []
    parts: list[str] = []  # the lines of the last turn
    start, day = 1, ""
    for number, line in enumerate(chain(first, lines), 1):
        found = _parsed(line)
        if found and is_timed and not found.has_time:
            found = None
        is_new_day = found is not None and found.date not in (day, "")
        is_full = found is not None and len(turns) >= MAX_TURNS
        if turns and (is_new_day or is_full or not (line.strip() or day)):
            yield start, _conversation(start, turns, parts)
            turns, parts = [], []
        if found:
            start = number if not turns else start
            day = found.date or day
            _end_turn(turns, parts)
            role = role_of(found.speaker)
            turns.append(Turn(role or found.speaker, "", role))
            parts.append(found.text)
        elif turns and line.strip() and not _is_dated(line):  # not a notice of the chat program
            parts.append(line.strip())
    if turns:
        yield start, _conversation(start, turns, parts)


def _conversation(start: int, turns: list[Turn], parts: list[str]) -> Conversation:
    _end_turn(turns, parts)
    return Conversation(str(start), with_assistant(turns))


def _end_turn(turns: list[Turn], parts: list[str]) -> None:
    """Give the last turn its text."""
    if turns:
        turns[-1] = turns[-1]._replace(text=" ".join(filter(None, parts)))
    parts.clear()


def _is_dated(line: str) -> bool:
    stamp = _STAMP.match(line.strip())
    return stamp is not None and stamp["date"] is not None


def _parsed(line: str) -> _Beginning | None:
    """The beginning of a turn; None if the line begins with no speaker."""
    text = line.strip()
    stamp = _STAMP.match(text)
    date = (stamp["date"] or "") if stamp else ""
    found = _SPEAKER.fullmatch(text[stamp.end() :] if stamp else text)
    if not found:
        return None
    if found["nick"]:
        return _Beginning(found["nick"], found["rest"].strip(), date, stamp is not None)
    return _Beginning(found["speaker"].strip(), found["text"].strip(), date, stamp is not None)
