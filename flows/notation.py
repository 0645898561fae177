"""The notation of settings: `key.path=value`, one after each `--set`, or several in one text of a form.

In a text, settings are separated by commas or line breaks. A value is JSON, or else text. Text ends at the
next separator. JSON that begins with a double quote, `[` or `{` may hold separators.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from models.addresses import redact_addresses
from models.errors import InputError

SEPARATOR = re.compile(r"[,\r\n]")
# The key, the equals sign and the blanks after it, where the value begins as JSON that may hold separators.
BEFORE_JSON = re.compile(r'[^,\r\n=]*=[^\S\r\n]*(?=["\[{])')
AFTER_JSON = re.compile(r"[^\S\r\n]*(?=[,\r\n]|\Z)")

FORM_PATTERN = r"^(?![\s\S]*(://|[Hh][Tt][Tt][Pp][Ss]?:))[\s,]*([^\s=,]+[ \t]*=[\s\S]*)?$"
"""What the form of a deployment accepts: no address, which may hold a secret, and a key before all else."""


class Change(NamedTuple):
    """One setting that differs from the recipe's."""

    key: str
    value: Any
    text: str
    """What a person wrote."""


def read_change(text: str, origin: str) -> Change:
    """One setting in the notation.

    Args:
        origin: what stands before the text in a message, and names the option or the field: `--set `.

    Raises:
        InputError: there is no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(
            f"{origin}{redact_addresses(text)}: give it as key.path=value, for instance train.max_minutes=5"
        )
    return Change(key.strip(), parse_value(value.strip()), text)


def split_settings(text: str) -> list[str]:
    """The settings of one text, each in the notation of `--set`."""
    settings, start = [], 0
    while start < len(text):
        end = _end_of_setting(text, start)
        settings.append(text[start:end].strip())
        start = end + 1
    return [setting for setting in settings if setting]


def join_settings(values: Iterable[tuple[str, Any]]) -> str:
    """The text that gives each key its value."""
    return ", ".join(f"{key}={show_value(value)}" for key, value in values)


def parse_value(text: str) -> Any:
    """A number, true, false, null, a list or a text in double quotes, as in JSON; anything else is text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def show_value(value: Any) -> str:
    """The value in the notation; in JSON if it would not be read as the same text."""
    is_text = isinstance(value, str) and value == value.strip() and parse_value(value) == value
    if is_text and not SEPARATOR.search(value) and value[:1] not in ('"', "[", "{"):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _end_of_setting(text: str, start: int) -> int:
    """Where the setting that starts here ends: at a separator, or at the end of the text."""
    if found := BEFORE_JSON.match(text, start):
        try:
            _, end = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError):
            end = None  # it only looks like JSON, and is text
        if end is not None and (blanks := AFTER_JSON.match(text, end)):
            return blanks.end()
    separator = SEPARATOR.search(text, start)
    return separator.start() if separator else len(text)
