"""Wrapping: long lines are broken between words, because a terminal would break them inside words."""

import re
import textwrap

COLUMN = re.compile(r" {2,}(?=\S)")  # the space before a column of aligned text
MIN_TEXT_COLUMNS = 24  # if the last column would be narrower, the continuation lines start further left
FOR_COPYING = "remedy: "  # what follows is a command, which must stay on one line


def wrapped(text: str, columns: int) -> str:
    """The text with lines of at most this many columns. A continuation line starts below the last column of
    its line. A word that is longer than a line stays whole, so that an address can be copied."""
    return "\n".join(_wrapped_line(line, columns) for line in text.split("\n"))


def _wrapped_line(line: str, columns: int) -> str:
    if len(line) <= columns or FOR_COPYING in line:
        return line
    starts = [match.end() for match in COLUMN.finditer(line) if match.end() <= columns - MIN_TEXT_COLUMNS]
    start = max(starts, default=0)
    if " " not in line[start:].strip():  # a single long word, such as an address or a path
        return line
    wrapper = textwrap.TextWrapper(
        columns,
        subsequent_indent=" " * start,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return "\n".join(wrapper.wrap(line))
