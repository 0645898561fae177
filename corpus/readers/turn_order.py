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
    r"(?P<prefix>(?:.*[\sT,])?)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?P<second>:\d\d(?:\.\d+)?)?"
    r"(?:\s?(?P<half>[ap])\.?m\.?)?",
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
    found = [_CLOCK.fullmatch(_as_text(value)) for value in values]
    if len({each and each["prefix"].strip() for each in found} | {None}) != 2 or not all(found):
        return None
    return [_clock(each) for each in found if each]


def _clock(found: re.Match[str]) -> float:
    hour, half = int(found["hour"]), (found["half"] or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return 3600 * hour + 60 * int(found["minute"]) + float((found["second"] or ":0")[1:])


def _numbered(values: list[Any]) -> list[Any] | None:
    """The numbers in texts that differ in nothing else, such as t2 and t10."""
    found = [_NUMBERED.fullmatch(_as_text(value)) for value in values]
    if not all(found) or len({(each["prefix"], each["suffix"]) for each in found if each}) != 1:
        return None
    return [int(each["number"]) for each in found if each]


def _as_text(value: Any) -> str:
    return str(value.isoformat() if isinstance(value, date | time) else value).strip()
