"""Finder of phone numbers.

A sequence of digits is a phone number if it has one of the forms in which phone numbers are written, or if
words such as `call me at` precede it. Dates, times, prices, decimal numbers and counting are not phone
numbers.
"""

import re
from itertools import pairwise

from models.text.identifiers import Span

_CHAIN = re.compile(r"[+(]{0,2}[0-9](?:[ ()./-]{0,4}+[0-9]){5,16}+")
_BEGINNING = re.compile(
    r"\+|\(\+?[0-9]{1,5}\)|0[0-9]|1[ .-]?[(2-9]|1[3-9][0-9][ -]|[2-9][0-9]{2} ?[-./ ] ?[0-9]{3}[-. ]"
)
_EXTENSION = re.compile(r",? ?(?:x|ext\.?|extension) ?[0-9]{1,6}(?!\w)", re.IGNORECASE)
_FORMS = (
    # International, with + or 00; a number of North America has ten digits after the 1.
    re.compile(r"(?:\(\+|\+ ?\(?)(?:1(?:\D*[0-9]){10}|[2-9](?:\D*[0-9]){7,15})"),
    re.compile(r"00 ?(?:1(?:\D*[0-9]){10}|[2-9](?:\D*[0-9]){8,14})"),
    # North America, with an area code.
    re.compile(r"(?:1[ .-]?)?\([2-9][0-9]{2}\)[ .-]?[0-9]{3}[ .-]?[0-9]{4}"),
    re.compile(r"(?:1[ .-])?[2-9][0-9]{2}(?: ?[-./] ?| )[0-9]{3}(?: ?[-.] ?| )[0-9]{4}"),
    # France; China.
    re.compile(r"0[1-9](?:[ .-]?[0-9]{2}){4}"),
    re.compile(r"1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}"),
    # Numbers with a leading 0, as in most of Europe: ten to twelve digits, or groups of at least two digits.
    re.compile(r"0[1-9][0-9]{8,10}"),
    re.compile(
        r"(?=(?:\D*[0-9]){9,12}$)"
        r"\(?0[1-9][0-9]{0,4}(?: ?[-/.)]{1,2} ?| )[0-9]{2,}(?:[ .-][0-9]{2,}){0,4}"
    ),
)
# With a cue, also numbers of seven digits or without any separator.
_CUED = re.compile(r"(?=(?:\D*[0-9]){7,13}$)\(?[0-9]{2,}(?:(?: ?[-/.)]{1,2} ?| )[0-9]{2,}){0,5}")
_CUE = re.compile(
    r"\b(?:tele)?(?:phone|phones|tel|mobile|cell|fax|call|calling|called|dial|whatsapp|sms|text|telefon|handy"
    r"|(?:reach|ring) (?:me|us|him|her|them)|(?:my|your|his|her|our|their) number|numbers? (?:is|are))\b"
    r"[^.!?0-9]{0,30}\.?[^.!?0-9]{0,3}$",
    re.IGNORECASE,
)
_WORD = re.compile("[a-z]{2}", re.IGNORECASE)  # a fast test that fails if there can be no cue
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}([-./ ])[01]?[0-9]\1[0-3]?[0-9](?![0-9])"
    r"|[0-3]?[0-9]([-./ ])[0-3]?[0-9]\2(?:19|20)[0-9]{2}(?![0-9])"
    r"|[0-3]?[0-9]([-./])[0-3]?[0-9]\3[0-9]{2}(?![0-9]|\3[0-9])"
)
_IN_A_NUMBER = re.compile(r"[0-9][-.,:]$|(?<![0-9])[0-9]{1,2}/$|[$€£¥] ?$")
_GROUP = re.compile("[0-9]+")
_NUMBER_GOES_ON = re.compile(r"\w|[-.,:][0-9]")


def find_phone(text: str, start: int, before: str) -> Span | None:
    """A phone number at this position of the text, with its extension."""
    match = _CHAIN.match(text, start)
    if match is None or _IN_A_NUMBER.search(before) or (text[start] == "+" and before[-1:].isalnum()):
        return None
    is_cued = _WORD.search(before) is not None and _CUE.search(before) is not None
    if not (is_cued or _BEGINNING.match(text, start)):
        return None
    chain = match[0]
    ends = [end for end in _ends(chain) if end >= 7 and chain.count("(", 0, end) == chain.count(")", 0, end)]
    for form in (*_FORMS, _CUED) if is_cued else _FORMS:
        for end in ends:
            if form.fullmatch(chain, 0, end) and _is_no_other_number(chain[:end]):
                if extension := _EXTENSION.match(text, start + end):
                    return start, extension.end()
                if not _NUMBER_GOES_ON.match(text, start + end):
                    return start, start + end
    return None


def _ends(chain: str) -> list[int]:
    """The ends of the groups of digits, the last one first."""
    return [group.end() for group in _GROUP.finditer(chain)][::-1]


def _is_no_other_number(text: str) -> bool:
    """Whether the digits are neither a date, nor groups that count up or down, nor a round number."""
    numbers = [int(group) for group in re.findall("[0-9]+", text)]
    steps = {after - number for number, after in pairwise(numbers)}
    counts = len(numbers) > 2 and steps in ({1}, {-1}, {0})
    is_round = len(numbers) == 1 and not text.startswith(("+", "0")) and numbers[0] % 1000 == 0
    return not (_DATE.match(text) or counts or is_round)
