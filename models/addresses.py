"""Redaction of addresses (URLs): usernames, passwords and query strings are never shown or stored.

`redact_addresses` is for messages. It keeps text such as `me:a@b` and question marks unless they are part of
an address. `redact_corpus` is for the corpus that the user gave, which may be an address even if its `//` is
missing.
"""

import re

import httpx2

# A password may contain an @ or even a slash. Digits after the host's colon are a port, not a password.
_LOGIN = re.compile(r"://(?:[^/\s'\"]*@|[^/\s'\"@:]*:(?!\d+(?:[/?#\s]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(://[^\s?#'\"]*)\?[^\s#'\"]*")

HUB_DATA_SET = re.compile(
    r"hf:(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?P<path>(?:/[^/@:?#\\\x00-\x1f\x7f-\x9f]+)*/?)"
    r"(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?",
    re.ASCII,
)
"""A data set of the Hugging Face hub, or a part of one. Nothing in this form is secret."""

OBJECTS = re.compile(
    r"(?P<scheme>s3|gs)://(?P<bucket>[a-z0-9][a-z0-9._-]{1,221}[a-z0-9])"
    r"(?P<path>(?:/[^/?#\\\x00-\x1f\x7f-\x9f]+)*/?)",
    re.ASCII,
)
"""Objects in a bucket of Amazon S3 or Google Cloud Storage. Nothing in this form is secret."""


def redact_addresses(text: str) -> str:
    """Return the text with the username, password and query string of every address in it removed."""
    return _QUERY.sub(r"\1", _LOGIN.sub("://", text))


def redact_corpus(corpus: str) -> str:
    """Return the corpus that the user gave, in a form that may be shown.

    A valid address is returned without its login, query string and fragment; a data set of the hub and
    objects in a bucket are returned unchanged. Any other text is returned in quotes; it may be a misspelt
    address, so this function removes more from it than `redact_addresses` would.
    """
    if HUB_DATA_SET.fullmatch(corpus.strip()) or OBJECTS.fullmatch(corpus.strip()):
        return corpus.strip()
    try:
        parts = httpx2.URL(corpus.strip())
    except (httpx2.InvalidURL, ValueError):
        return _without_login(corpus)
    if not parts.host:
        return _without_login(corpus)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.host}{port}{parts.path}"


def _without_login(text: str) -> str:
    """Redact and quote text that is not a valid address but may have been meant as one."""
    found = re.fullmatch(r"((?:[A-Za-z][\w+.-]+:)?/*)(.*)", text.strip()[:300], re.DOTALL)
    assert found is not None
    rest = found[2].rpartition("@")[2] if ":" in found[0].partition("@")[0] else found[2]
    start = "" if rest != found[2] and "/" not in found[1] else found[1]
    query = r"\?" if ":" in found[1] else r"\?[\w.~-]+="  # a file name may contain a question mark
    return repr(start + re.split(query, rest, maxsplit=1)[0])
