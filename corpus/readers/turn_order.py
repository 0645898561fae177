"""Turn order: sorts the turn rows of a conversation by their numbers or by their times.

Values are only compared if all rows of the conversation have one of the same kind: numbers, dates in ISO
form, or times of a day. Everything else (such as 5/12, which is a day in May or in December) decides nothing,
and the order of the file counts.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from corpus.readers.messages import ORDERS, Row

TIMES = ("timestamp", "time", "date", "created_at", "created", "datetime", "sent_at", "create_time")

_NUMBERED = re.compile(r"(?P<prefix>\D*)(?P<number>\d{1,18})(?P<suffix>\D*)")
_CLOCK = re.compile(
    r"(?P<prefix>|.*\S(?=\s)|.*[T,])\s*(?P<hour>\d{1,2}):(?P<minute>\d\d)(?P<second>:\d\d(?:\.\d+)?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?(?P<suffix>)",
    re.IGNORECASE,
)
_ONE_DIGIT_HOUR = re.compile(r"(?P<before>[\sT])(?P<hour>\d):")


def order_values(row: Row) -> dict[str, Any]:
    """What a row may be sorted by: its numbers and times by their keys, and a date together with a time."""
    values = {key: row[key] for key in ORDERS if row.get(key) not in (None, "")}
    times = {key: row[key] for key in TIMES if row.get(key) not in (None, "")}
    if "date" in times and "time" in times:
        values["date and time"] = f"{_as_text(times['date'])} {_as_text(times['time'])}"
    return {**values, **times}


def in_order(rows: Sequence[dict[str, Any]]) -> list[int] | None:
    """The positions of the rows in their order, by the first key that can be compared in all of them.

    Args:
        rows: the `order_values` of each row.

    Returns:
        The positions; None if no key can be compared.
    """
    for key in rows[0] if rows else ():
        if not all(key in row for row in rows):
            continue
        values = [row[key] for row in rows]
        for compare in (_numbers, _dates, _clocks, _numbered):
            if (ranks := _attempt(compare, values)) is not None:
                return sorted(range(len(rows)), key=ranks.__getitem__)
    return None


def _attempt(compare: Callable[[list[Any]], list[Any] | None], values: list[Any]) -> list[Any] | None:
    try:
        return compare(values)
    except (ValueError, TypeError, OverflowError):
        return None


def _numbers(values: list[Any]) -> list[Any] | None:
    if any(isinstance(value, bool) for value in values):
        return None
    numbers = [value if isinstance(value, int) else float(value) for value in values]
    return numbers if all(number == number for number in numbers) else None


def _dates(values: list[Any]) -> list[Any] | None:
    return [_moment(value) for value in values]


def _moment(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    text = _ONE_DIGIT_HOUR.sub(r"\g<before>0\g<hour>:", str(value).strip())
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _clocks(values: list[Any]) -> list[Any] | None:
    """The times of one day: before the times, all values have the same text, such as the same date."""
    found = _alike(_CLOCK, values)
    return found and [_clock(each) for each in found]


def _clock(found: re.Match[str]) -> float:
    hour, half = int(found["hour"]), (found["half"] or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return 3600 * hour + 60 * int(found["minute"]) + float((found["second"] or ":0")[1:])


def _numbered(values: list[Any]) -> list[Any] | None:
    """The numbers in texts that differ in nothing else, such as t2 and t10."""
    found = _alike(_NUMBERED, values)
    return found and [int(each["number"]) for each in found]


def _alike(pattern: re.Pattern[str], values: list[Any]) -> list[re.Match[str]] | None:
    """The matches of all values; None if one does not match, or if their prefixes or suffixes differ."""
    found = [match for value in values if (match := pattern.fullmatch(_as_text(value)))]
    surroundings = {(match["prefix"], match["suffix"]) for match in found}
    return found if len(found) == len(values) and len(surroundings) == 1 else None


def _as_text(value: Any) -> str:
    return str(value.isoformat() if isinstance(value, date | time) else value).strip()
