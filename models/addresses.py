"""Redaction of addresses: no user, password or query is shown or stored.

There are two functions, because a message may hold `me:a@b` and a question mark that are no address and must
stay, while a corpus that somebody gave is an address even where its `//` is missing.
"""

import re

import httpx2

# A password may hold an @ or even a slash; what follows the host's colon is a port.
_LOGIN = re.compile(r"://(?:[^/\s'\"]*@|[^/\s'\"@:]*:(?!\d+(?:[/?#\s]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(://[^\s?#'\"]*)\?[^\s#'\"]*")


def redact_addresses(text: str) -> str:
    """A text of any kind, without the user, password and query of the addresses in it."""
    return _QUERY.sub(r"\1", _LOGIN.sub("://", text))


def redact_corpus(corpus: str) -> str:
    """What a person gave as a corpus: an address without user, password, query and fragment.

    Here the whole text may be meant as an address and be misspelt, so more of it is left out.
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
    """A text that is no valid address, but may be meant as one."""
    found = re.fullmatch(r"((?:[A-Za-z][\w+.-]+:)?/*)(.*)", text.strip()[:300], re.DOTALL)
    assert found is not None
    rest = found[2].rpartition("@")[2] if ":" in found[0].partition("@")[0] else found[2]
    start = "" if rest != found[2] and "/" not in found[1] else found[1]
    query = r"\?" if ":" in found[1] else r"\?[\w.~-]+="  # a file's name may hold a question mark
    return repr(start + re.split(query, rest, maxsplit=1)[0])
