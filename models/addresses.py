"""Addresses: what may be shown of one, and written down."""

import re

# A password may hold an @ or even a slash; what follows the host's colon is a port.
_LOGIN = re.compile(r"://(?:[^/\s'\"]*@|[^/\s'\"@:]*:(?!\d+(?:[/?#\s]|$))[^\s'\"]*@)")
_QUERY = re.compile(r"(://[^\s?#'\"]*)\?[^\s#'\"]*")


def bare(text: str) -> str:
    """The same without the user, password and query of the addresses in it."""
    return _QUERY.sub(r"\1", _LOGIN.sub("://", text))
