"""Redaction of personal data: each item that is found is replaced by a word in brackets, such as `[email]`.

The replacements are ordinary text and no special tokens, so any vocabulary can encode them, also that of a
pretrained model. The search reads a text from left to right and takes linear time. A replacement can make an
item of its neighbour, as in `000::x@y.de`, so the search is repeated until the text stays as it is.
"""

import re

from models.text.identifiers import find_card, find_credentials, find_email, find_iban, find_ip
from models.text.normalisation import CHANGING, Redaction, Style, normalise
from models.text.phone_numbers import find_phone

# What each kind is called in counts.
KINDS = {
    "email": "e-mail addresses",
    "phone": "phone numbers",
    "card": "card numbers",
    "iban": "IBANs",
    "ip": "IP addresses",
    "credentials": "credentials in URLs",
}
_FINDERS = {
    "credentials": find_credentials,
    "email": find_email,
    "iban": find_iban,
    "ip": find_ip,
    "card": find_card,
    "phone": find_phone,
}
# The kinds that begin with such a character. A card precedes a phone number, whose digits it may resemble.
_MARKS, _LETTERS = ("credentials", "ip"), ("email", "iban", "ip")
_DIGITS, _SIGNS = ("email", "ip", "card", "phone"), ("phone",)
_BEFORE = 48  # the number of characters before an item that a finder may read
_MAX_SEARCHES = 16  # Usually two are enough. The limit keeps the time linear for a text that needs many.
_TRIGGER = re.compile(r"[0-9@=]")  # a text without any of these characters contains no item
_START = re.compile(
    r"://|(?<=\S)[?&#](?=[\w.-]{1,64}=)|[+(](?=[+0-9])"
    r"|(?<!\w)(?:\w(?=[\w.+%'~-]{0,63}@)|[A-Za-z]{2}(?=[0-9]{2})|(?=[0-9A-Fa-f]{1,4}:)|(?=::)|[0-9])"
)


def redact(text: str) -> tuple[str, dict[str, int]]:
    """Replace personal data in a text, and count the replaced items by kind (the keys of KINDS).

    A text that has been redacted does not change again, unless more than _MAX_SEARCHES items stand in one
    sequence in which each becomes an item only by the replacement of the next.
    """
    counts: dict[str, int] = {}
    if not _TRIGGER.search(text):
        return text, counts
    for _ in range(_MAX_SEARCHES):
        previous, text = text, _replace(text, counts)
        if text == previous:
            break
    return text, counts


def _replace(text: str, counts: dict[str, int]) -> str:
    """Replace the items that one search finds, and add them to the counts."""
    parts: list[str] = []
    before, end, position = "", 0, 0  # the redacted text up to `end` (its last characters)
    while match := _START.search(text, position):
        start = match.start()
        context = (before + text[max(end, start - _BEFORE) : start])[-_BEFORE:]
        found = _find(text, start, context)
        if found is None:
            position = start + 1
            continue
        kind, first, position = found
        parts += [text[end:first], f"[{kind}]"]
        before = (before + text[max(end, first - _BEFORE) : first] + f"[{kind}]")[-_BEFORE:]
        end = position
        counts[kind] = counts.get(kind, 0) + 1
    return "".join([*parts, text[end:]])


def _find(text: str, start: int, before: str) -> tuple[str, int, int] | None:
    """The kind, the start and the end of the item that is found at `start`."""
    first = text[start]
    if first in ":?&#":
        kinds: tuple[str, ...] = _MARKS
    elif first in "+(":
        kinds = _SIGNS
    else:
        kinds = _DIGITS if first in "0123456789" else _LETTERS
    for kind in kinds:
        if (span := _FINDERS[kind](text, start, before)) is not None:
            return kind, *span
    return None


def prepare(text: str, *, style: Style, redaction: Redaction) -> tuple[str, dict[str, int]]:
    """The text as a model reads it, normalised and redacted, and the counts of the replaced items by kind.

    Training and chat both call this function, so that a model meets a text in the form that it has learnt.
    Personal data is searched in the text of the style `plain`, because the style `article` has no digits.
    """
    if redaction == "none":
        return normalise(text, style), {}
    standard = normalise(text, "plain")
    redacted, counts = redact(standard)
    unchanged = style == "plain" and not counts
    return (standard if unchanged else normalise(redacted, style)), counts


def changing_pattern(style: Style, redaction: Redaction) -> str:
    """A regular expression, for RE2 as well, that matches a part of every text that `prepare` changes."""
    if style != "plain":
        return ""
    return CHANGING if redaction == "none" else f"{CHANGING}|{_TRIGGER.pattern}"
