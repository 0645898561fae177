"""Redaction of addresses: removes users, passwords and queries, which are never shown or stored.

There are two functions. In a message, text such as `me:a@b` or a question mark is kept unless it is part of
an address. A corpus that the user gave may be an address even if its `//` is missing.
"""

import re

import httpx2

# A password may contain an @ or even a slash. Digits after the host's colon are a port, not a password.
_LOGIN = re.compile(r"://(?:[^/\s'\"]*@|[^/\s'\"@:]*:(?!\d+(?:[/?#\s]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(://[^\s?#'\"]*)\?[^\s#'\"]*")


def redact_addresses(text: str) -> str:
    """Return a text without the user, password and query of any address in it."""
    return _QUERY.sub(r"\1", _LOGIN.sub("://", text))


def redact_corpus(corpus: str) -> str:
    """Return a corpus as the user gave it. If it is an address, remove its login, query and fragment.

    The whole text may be a misspelt address, so this function removes more than `redact_addresses` does.
    """
    try:
        parts = httpx2.URL(corpus.strip())
    except (httpx2.InvalidURL, ValueError):
        return _without_login(corpus)
    if not parts.host:
        return _without_login(corpus)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.host}{port}{parts.path}"


def _without_login(text: str) -> str:
    """Redact text that is not a valid address but may be intended as one."""
    found = re.fullmatch(r"((?:[A-Za-z][\w+.-]+:)?/*)(.*)", text.strip()[:300], re.DOTALL)
    assert found is not None
    rest = found[2].rpartition("@")[2] if ":" in found[0].partition("@")[0] else found[2]
    start = "" if rest != found[2] and "/" not in found[1] else found[1]
    query = r"\?" if ":" in found[1] else r"\?[\w.~-]+="  # a file name may contain a question mark
    return repr(start + re.split(query, rest, maxsplit=1)[0])
