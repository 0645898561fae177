"""Speaker lines: reads conversations from lines such as `Ann: Hello.`, with or without dates before them.

A line without a speaker continues the turn before it. An empty line ends a conversation; where each line has
a date, as in the export of a chat program, a new day does.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from corpus.readers.encodings import LineReader
from corpus.readers.records import role_of
from corpus.readers.turns import Conversation, Turn

_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:[\s\u202f]?[AaPp]\.?[Mm]\.?)?"
_STAMP = re.compile(rf"\u200e?\[?(?P<date>{_DATE})?,?\s*(?:{_TIME})\]?\s*(?:-\s*)?")
_SPEAKER = re.compile(
    r"(?P<speaker>[^\s:][^:\n]{0,39}?)\s?:(?:\s+|$)(?P<text>.*)|<(?P<nick>[^>\s]{1,40})>\s+(?P<rest>.*)",
    re.DOTALL,
)
MIN_LINES = 4
MIN_SHARE = 0.6  # of the lines that are not empty; the others continue a turn


def is_dialogue(lines: list[str]) -> bool:
    """Whether most lines begin with a speaker, and some speakers speak more than once."""
    filled = [line for line in lines if line.strip()]
    speakers = Counter(found[0] for line in filled if (found := _parsed(line)))
    again = [name for name, number in speakers.items() if number > 1]
    return (
        len(filled) >= MIN_LINES
        and speakers.total() >= MIN_SHARE * len(filled)
        and len(speakers) > 1
        and sum(speakers[name] for name in again) >= speakers.total() / 2
    )


def read_conversations(path: Path, reader: LineReader) -> Iterator[tuple[int, Conversation]]:
    """Yield the conversations, each with the number of its first line."""
    turns: list[Turn] = []
    start, day = 1, ""
    for number, line in zip(count(1), reader.lines(path), strict=False):
        parsed = _parsed(line.text)
        is_new_day = parsed is not None and parsed[2] != day and parsed[2] != ""
        if turns and (is_new_day or not (line.text.strip() or day)):
            yield start, Conversation(str(start), turns)
            turns = []
        if parsed:
            start = number if not turns else start
            speaker, text, date = parsed
            day = date or day
            turns.append(Turn(role_of(speaker) or speaker, text, role_of(speaker)))
        elif turns and line.text.strip() and not _is_dated(line.text):  # not a notice of the chat program
            last = turns[-1]
            turns[-1] = Turn(last.speaker, f"{last.text} {line.text.strip()}".strip(), last.role)
    if turns:
        yield start, Conversation(str(start), turns)


def _is_dated(line: str) -> bool:
    stamp = _STAMP.match(line.strip())
    return stamp is not None and stamp["date"] is not None


def _parsed(line: str) -> tuple[str, str, str] | None:
    """The speaker, the text and the date ("" without one) of a line; None if it begins with no speaker."""
    text = line.strip()
    stamp = _STAMP.match(text)
    date = (stamp["date"] or "") if stamp else ""
    found = _SPEAKER.fullmatch(text[stamp.end() :] if stamp else text)
    if not found:
        return None
    if found["nick"]:
        return found["nick"], found["rest"].strip(), date
    return found["speaker"].strip(), found["text"].strip(), date
