"""Text normalisation in two styles, and the text that is displayed to people.

The style `plain` is the standard one; `article` is that of the tutorial that this project began with. Both
are idempotent, so that what a person types in the chat reaches the model in the style that it was trained on.
"""

import html
import re
import unicodedata
from typing import Literal

Style = Literal["plain", "article"]

# Two ways to type the same character, and what C1 controls of a mis-declared file stand for.
_TYPOGRAPHY = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "´": "'", "`": "'",
        "“": '"', "”": '"', "„": '"',
        "–": "-", "—": "--", "―": "--", "\u00ad": None, "\u200b": None, "\ufeff": None,
        "…": "...",
    }
)  # fmt: skip
# Only the tags that the corpus is known to hold: `<me>` and `<breathing>` are text.
_TAG = re.compile(r"</?(?:u|i|b|em|strong|pre|html|br|font|p)\s*/?>", re.IGNORECASE)
# `&emdash;` is no entity of HTML, yet it stands in the corpus.
_ENTITY = re.compile(r"&(?:quot|lt|gt|amp|nbsp|apos|mdash|ndash|hellip|#\d{1,6}|#x[0-9a-f]{1,5});")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
# The corpus has words torn at the apostrophe: `can ' t`, `we ' ll`.
_TORN = re.compile(r"(?<=[A-Za-z]) ' (?=(?:s|t|re|ve|ll|d|m)\b)", re.IGNORECASE)
_NOT_TUTORIAL = re.compile(r"[^a-z.,!?]+")
_MARK = re.compile(r"\s*([.,!?])\s*")
_SUFFIX = re.compile(r"\b([a-z]+) (s|t|re|ve|ll|d|m)\b")


def normalise(text: str, style: Style) -> str:
    """The text with one code point per character and one blank between words; "" if nothing is left.

    `plain` keeps case and punctuation. `article` keeps lower-case letters and `.,!?`, each mark as a
    word; an apostrophe becomes a blank, so that `we'll` is `we ll` and never `well`.
    """
    text = _standard(text)
    return _tutorial(text) if style == "article" else text


def _standard(text: str) -> str:
    # Lone surrogates have no UTF-8 encoding, so no bytes to charge.
    text = text.encode("utf-8", "replace").decode("utf-8")
    while True:  # `&amp;quot;` takes two rounds; each one shortens the text, so it ends
        cleaned = _ENTITY.sub(lambda match: html.unescape(match[0]), text.replace("&emdash;", "--"))
        cleaned = _TAG.sub(" ", cleaned)
        cleaned = unicodedata.normalize("NFC", cleaned).translate(_TYPOGRAPHY)
        cleaned = " ".join(_CONTROL.sub(" ", cleaned).split())
        cleaned = _TORN.sub("'", cleaned)
        if cleaned == text:
            return cleaned
        text = cleaned


def _tutorial(text: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = _MARK.sub(r" \1 ", text.lower())
    return " ".join(_NOT_TUTORIAL.sub(" ", text).split())


def display(text: str, style: Style) -> str:
    """The text for people: in style `article`, marks and contractions are joined to their words again."""
    if style == "plain":
        return text
    text = re.sub(r"\s+([.,!?])", r"\1", text)
    return _SUFFIX.sub(r"\1'\2", text)
