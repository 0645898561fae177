"""The notation of settings: one `key.path=value` after each `--set`, or several in one input field.

In a form field, settings are separated by commas or line breaks. A value that is not valid JSON is plain text
and ends at the next separator. JSON that begins with a double quote, `[` or `{` may contain separators.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from models.addresses import redact_addresses
from models.errors import InputError

SEPARATOR = re.compile(r"[,\r\n]")
# Matches a key, an equals sign and whitespace, if they are followed by JSON that may contain separators.
BEFORE_JSON = re.compile(r'[^,\r\n=]*=[^\S\r\n]*(?=["\[{])')
AFTER_JSON = re.compile(r"[^\S\r\n]*(?=[,\r\n]|\Z)")

FORM_PATTERN = r"^(?![\s\S]*(://|[Hh][Tt][Tt][Pp][Ss]?:))[\s,]*([^\s=,]+[ \t]*=[\s\S]*)?$"
"""What the field `settings` in the input form of a deployment accepts: text that begins with a key and
contains no address, because an address may contain a secret."""


class Change(NamedTuple):
    """One setting that differs from the recipe."""

    key: str
    value: Any
    text: str
    """The setting as the user wrote it."""


def read_change(text: str, origin: str) -> Change:
    """Parse one setting.

    Args:
        origin: the beginning of error messages, which names the option or form field, such as `--set `.

    Raises:
        InputError: the text has no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(
            f"{origin}{redact_addresses(text)}: this text has no equals sign; "
            "write a setting as key.path=value, for instance train.max_minutes=5"
        )
    return Change(key.strip(), parse_value(value.strip()), text)


def split_settings(text: str) -> list[str]:
    """Split the text of a form field into settings, each in the notation of `--set`."""
    settings, start = [], 0
    while start < len(text):
        end = _end_of_setting(text, start)
        settings.append(text[start:end].strip())
        start = end + 1
    return [setting for setting in settings if setting]


def join_settings(values: Iterable[tuple[str, Any]]) -> str:
    """Join keys and values into one text in the notation of a form field."""
    return ", ".join(f"{key}={show_value(value)}" for key, value in values)


def parse_value(text: str) -> Any:
    """The value of a text that is valid JSON, such as a number, true, null or a list; otherwise the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def show_value(value: Any) -> str:
    """The value in the notation of settings: plain text if it is parsed as the same value, otherwise JSON."""
    is_text = isinstance(value, str) and value == value.strip() and parse_value(value) == value
    if is_text and not SEPARATOR.search(value) and value[:1] not in ('"', "[", "{"):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _end_of_setting(text: str, start: int) -> int:
    """The position where the setting that begins at `start` ends: a separator, or the end of the text."""
    if found := BEFORE_JSON.match(text, start):
        try:
            _, end = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError):
            end = None  # the value begins like JSON but is plain text
        if end is not None and (blanks := AFTER_JSON.match(text, end)):
            return blanks.end()
    separator = SEPARATOR.search(text, start)
    return separator.start() if separator else len(text)
