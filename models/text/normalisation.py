"""Text normalisation in two styles, and the conversion of normalised text for display.

`plain` is the default style; `article` is the style of the tutorial that the recipe `tutorial` follows. Both
styles are idempotent. The chat normalises the user's text in the style that the model was trained on.
"""

import html
import re
import unicodedata
from typing import Literal

Style = Literal["plain", "article"]
# Defined beside no finder of personal data, so that only the stage `clean` runs again if a finder changes.
Redaction = Literal["personal", "none"]

# Typographic characters and their ASCII equivalents; invisible characters are removed.
_TYPOGRAPHY = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "´": "'", "`": "'",
        "“": '"', "”": '"', "„": '"',
        "–": "-", "—": "--", "―": "--", "\u00ad": None, "\u200b": None, "\ufeff": None,
        "…": "...",
    }
)  # fmt: skip
# Each text that the style `plain` changes has such a part, so that a whole column can be searched for it.
CHANGING = r"[^ -~]|[&<`]|^ |  | $| ' "
# Only the markup tags that occur in the corpus are removed; `<me>` and `<breathing>` are text.
_TAG = re.compile(r"</?(?:u|i|b|em|strong|pre|html|br|font|p)\s*/?>", re.IGNORECASE)
# `&emdash;`, which occurs in the corpus but is not an HTML entity, is replaced separately.
_ENTITY = re.compile(r"&(?:quot|lt|gt|amp|nbsp|apos|mdash|ndash|hellip|#\d{1,6}|#x[0-9a-f]{1,5});")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# Some words in the corpus are split at the apostrophe: `can ' t`, `we ' ll`.
_TORN = re.compile(r"(?<=[A-Za-z]) ' (?=(?:s|t|re|ve|ll|d|m)\b)", re.IGNORECASE)
_NOT_TUTORIAL = re.compile(r"[^a-z.,!?]+")
_MARKS = ".,!?"
# For ASCII, the same as the pattern, after the conversion to lower case. It takes a fraction of the time.
_TO_TUTORIAL = {i: chr(i).lower() if chr(i).isalpha() or chr(i) in _MARKS else " " for i in range(128)}
_SUFFIX = re.compile(r"\b([a-z]+) (s|t|re|ve|ll|d|m)\b")


def normalise(text: str, style: Style) -> str:
    """Return the normalised text, with single spaces between words; it is "" if nothing is left.

    `plain` keeps case and punctuation. `article` keeps only the letters a to z, in lower case, and
    `.,!?`, with each mark as a separate word. An apostrophe becomes a space, so that `we'll` becomes `we ll`
    and never `well`.
    """
    text = _standard(text)
    return _tutorial(text) if style == "article" else text


def _standard(text: str) -> str:
    # A lone surrogate has no UTF-8 encoding, and therefore no bytes that a score could count.
    text = text.encode("utf-8", "replace").decode("utf-8")
    while True:  # `&amp;quot;` takes two rounds; each round shortens the text, so the loop ends
        cleaned = _round(text)
        if cleaned == text:
            return cleaned
        text = cleaned


def _round(text: str) -> str:
    # Most texts need none of these steps. The conditions skip a step that would change nothing.
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text.replace("&emdash;", "--"))
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "`" in text or not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY)
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    text = " ".join(text.split())
    return _TORN.sub("'", text) if " ' " in text else text


def _tutorial(text: str) -> str:
    if text.isascii():
        text = text.translate(_TO_TUTORIAL)
    else:
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = _NOT_TUTORIAL.sub(" ", text.lower())
    for mark in _MARKS:
        if mark in text:
            text = text.replace(mark, f" {mark} ")
    return " ".join(text.split())


def display(text: str, style: Style) -> str:
    """The text for display. In the style `article`, marks and contractions are joined to their words."""
    if style == "plain":
        return text
    text = re.sub(r"\s+([.,!?])", r"\1", text)
    return _SUFFIX.sub(r"\1'\2", text)
