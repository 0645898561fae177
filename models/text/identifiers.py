"""Finders of e-mail addresses, card numbers, IBANs, IP addresses, and credentials in URLs.

A finder gets a text, a position, and the text before the position; it returns the start and the end of an
item at this position, or None. The time that it takes has a fixed limit, except for the credentials, whose
characters are each read once.
"""

import re
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

Span = tuple[int, int]

_EMAIL = re.compile(r"\w[\w.+%'~-]{0,63}@(?:[\w-]{1,63}\.){1,8}(?:xn--[\w-]{2,59}|[^\W\d_]{2,24})(?![\w@])")
_USER_INFO = re.compile(r"(?<=\w)://([^\s/?#\"<>]*+)")
_QUERY_NAME = re.compile(r"[?&#]([\w.-]{1,64})=")
_QUERY_VALUE = re.compile(r"[^\s&#\"<>]++")
# fmt: off
_SECRET_NAMES = {
    "token", "accesstoken", "authtoken", "refreshtoken", "idtoken", "key", "apikey", "secret", "clientsecret",
    "password", "passwd", "pwd", "pass", "auth", "signature", "sig",
}
# fmt: on
CREDENTIALS = "[credentials]"

_CARD = re.compile(r"[0-9]{3,19}(?:[ -][0-9]{3,16}){0,4}(?:[ -][0-9]{1,2})?")
_CARD_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-59]|[689]\d)\d{11}(?:\d\d)?"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d|62\d\d|35(?:2[89]|[3-8]\d))\d{12,15}"  # Discover, UnionPay, JCB
    r"|(?:50|5[6-8]|6304|67)\d{11,17}"  # Maestro
    r"|(?:220[0-4]|508\d|60\d\d|8[12]\d\d|9792)\d{12}"  # Mir, RuPay, Troy
)

# The length of an IBAN in each country, as the registry of SWIFT lists it.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD FK", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC",
        32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip

_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"[0-9A-Fa-f:]{2,39}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])|[0-9A-Fa-f:]{2,39}")
_IN_AN_IPV6 = re.compile(r"(?<!\w)[0-9A-Fa-f]{1,4}:$|::$|\.$")
_VERSION = re.compile(r"\b(?:version|ver|v|release|firmware|build|chapter|section)[.:]? ?$", re.IGNORECASE)
_IN_A_NUMBER = re.compile(r"[0-9][.,]$")


def find_credentials(text: str, start: int, before: str) -> Span | None:
    """The user information of a URL, or the value of a query parameter with a name such as `token`."""
    if text[start] == ":":
        match = _USER_INFO.match(text, start)
        end = match[1].rfind("@") if match else -1
        span = (start + 3, start + 3 + end) if end > 0 else None
    else:
        name = _QUERY_NAME.match(text, start)
        is_secret = name is not None and re.split(r"[_.-]", name[1].lower())[-1] in _SECRET_NAMES
        value = _QUERY_VALUE.match(text, name.end()) if name and is_secret else None
        span = value.span() if value else None
    return None if span is None or text[span[0] : span[1]] == CREDENTIALS else span


def find_email(text: str, start: int, before: str) -> Span | None:
    match = _EMAIL.match(text, start)
    return match.span() if match else None


def find_card(text: str, start: int, before: str) -> Span | None:
    """A card number: the digits of a known issuer with a valid check digit, with or without groups."""
    match = _CARD.match(text, start)
    if match is None or _IN_A_NUMBER.search(before):
        return None
    for end in group_ends(text, start, match.end()):
        digits = re.sub("[ -]", "", text[start:end])
        if len(digits) <= 19 and _CARD_ISSUERS.fullmatch(digits) and has_luhn_check_digit(digits):
            return start, end
    return None


def group_ends(text: str, start: int, last: int) -> list[int]:
    """The ends of all groups of digits between two positions, the last one first."""
    ends = [match.end() for match in re.finditer("[0-9]+", text[start:last])]
    return [start + end for end in reversed(ends) if not text[start + end : start + end + 1].isalnum()]


def has_luhn_check_digit(digits: str) -> bool:
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


@cache
def _iban_pattern(length: int) -> re.Pattern[str]:
    return re.compile(rf"[A-Za-z]{{2}}[0-9]{{2}}(?:[ -]?[A-Za-z0-9]){{{length - 4}}}(?!\w)")


def find_iban(text: str, start: int, before: str) -> Span | None:
    """An IBAN with the length that its country prescribes, and with a valid checksum."""
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper())
    match = _iban_pattern(length).match(text, start) if length else None
    if match is None:
        return None
    code = re.sub("[ -]", "", match[0])
    is_valid = int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1
    return match.span() if is_valid else None


def find_ip(text: str, start: int, before: str) -> Span | None:
    """An address of IPv4 or IPv6. Four numbers are an address unless a word such as `version` precedes."""
    if match := _IPV4.match(text, start):
        is_part = _IN_A_NUMBER.search(before) or _VERSION.search(before)
        return match.span() if _is_ip(match[0]) and not is_part else None
    match = _IPV6.match(text, start)
    if match is None or match[0].count(":") < 2 or _IN_AN_IPV6.search(before):
        return None
    ends = [match.end(), *(start + colon.start() for colon in re.finditer(":", match[0]))]
    for end in sorted(ends, reverse=True):
        if not text[end : end + 1].isalnum() and _is_long_ipv6(text[start:end]):
            return start, end
    return None


def _is_long_ipv6(text: str) -> bool:
    """Whether the text is an IPv6 address that cannot be taken for a time or a list, such as `4::30`."""
    first = text.partition(":")[0]
    is_long = len(first) > 2 or text == "::1" or text.lower().startswith("::ffff:")
    return is_long and any(map(str.isdigit, text)) and _is_ip(text)


def _is_ip(text: str) -> bool:
    try:
        IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    return True
