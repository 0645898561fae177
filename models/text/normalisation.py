"""Text: the two named normalisations, and what a person reads of a normalised text.

Both are idempotent: a text that went through once does not change again, so that the words a
person types in the chat meet the model in the form it was trained on.
"""

import html
import re
import unicodedata
from typing import Literal

Form = Literal["plain", "article"]

# Two ways to type one thing, and what C1 controls of a mis-declared file stand for.
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
_NOT_ARTICLE = re.compile(r"[^a-z.,!?]+")
_MARK = re.compile(r"\s*([.,!?])\s*")
_SUFFIX = re.compile(r"\b([a-z]+) (s|t|re|ve|ll|d|m)\b")


def normalise(text: str, form: Form) -> str:
    """The text in one spelling for each character and one blank between words; "" if nothing is left.

    `plain` keeps case and punctuation. `article` keeps lower-case letters and `.,!?`, each mark a
    word of its own; an apostrophe becomes a blank, so that `we'll` is `we ll` and never `well`.
    """
    text = _plain(text)
    return _article(text) if form == "article" else text


def _plain(text: str) -> str:
    # Lone surrogates have no UTF-8 and so no bytes to be charged for.
    text = text.encode("utf-8", "replace").decode("utf-8")
    while True:  # `&amp;quot;` takes two rounds; each one shortens the text, so it ends
        tidy = _ENTITY.sub(lambda match: html.unescape(match[0]), text.replace("&emdash;", "--"))
        tidy = _TAG.sub(" ", tidy)
        tidy = unicodedata.normalize("NFC", tidy).translate(_TYPOGRAPHY)
        tidy = " ".join(_CONTROL.sub(" ", tidy).split())
        tidy = _TORN.sub("'", tidy)
        if tidy == text:
            return tidy
        text = tidy


def _article(text: str) -> str:
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = _MARK.sub(r" \1 ", text.lower())
    return " ".join(_NOT_ARTICLE.sub(" ", text).split())


def display(text: str, form: Form) -> str:
    """What a person reads: for `article`, marks and contractions are put back to their words."""
    if form == "plain":
        return text
    text = re.sub(r"\s+([.,!?])", r"\1", text)
    return _SUFFIX.sub(r"\1'\2", text)
