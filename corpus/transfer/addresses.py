"""Addresses of corpora: what is stored of one, and what only the request gets.

A run's settings stand in Prefect, in MLflow and in manifests for as long as these last. So a query,
which may hold a token, is stored as a mark alone and stays in this process, and a user and password
are refused. `env:REPARTEE_CORPUS_NAME` means the address that this variable holds: all of it.
"""

import hashlib
import os
import re

from models.addresses import shown
from models.errors import InputError

HTTP = re.compile(r"https?:", re.IGNORECASE)
VARIABLE = re.compile(r"env:(REPARTEE_CORPUS_[A-Z0-9_]+)")
MARK = re.compile(r"\?redacted-[0-9a-f]{8}")
BY_VARIABLE = "put the whole address into a variable REPARTEE_CORPUS_NAME and give env:REPARTEE_CORPUS_NAME"

FORM_PATTERN = (
    r"^([Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+(/[^\s?#]*)?(\?redacted-[0-9a-f]{8})?"
    r"|env:REPARTEE_CORPUS_[A-Z0-9_]+|[^:]+)$"
)
"""What a deployment's form takes: nothing that would store a secret, no `file:` and the like."""

_queries: dict[str, str] = {}  # the whole address of each that is stored with a mark


def storable(corpus: str) -> str:
    """The corpus as it may be stored; the query of an address is remembered in this process.

    Raises:
        InputError: there is a user or a password in it.
    """
    text = corpus.strip()
    if not HTTP.match(text):
        return corpus
    address, _, _ = text.partition("#")
    base, has_query, query = address.partition("?")
    if "@" in text and _holds_login(base):
        raise InputError(
            f"corpus {shown(text)}: a user and password in an address would be stored with the run: put them "
            f"into ~/.netrc (machine {_host(text)} login USER password PASSWORD), or {BY_VARIABLE}"
        )
    if not has_query or MARK.fullmatch(f"?{query}"):
        return address
    stored = f"{base}?redacted-{hashlib.sha256(query.encode()).hexdigest()[:8]}"
    _queries[stored] = address
    return stored


def _host(address: str) -> str:
    """Of an address that is safe to show, else the word for it."""
    found = re.match(r"https?://([^/:]+)", shown(address))
    return found[1] if found else "HOST"


def _holds_login(base: str) -> bool:
    """Whether there is a user before the host, or what can only be the beginning of a password after it."""
    host = base.partition(":")[2].lstrip("/").partition("/")[0]
    port = re.sub(r"\[.*\]", "", host).partition(":")[2]
    return "@" in host or not re.fullmatch(r"\d*", port)


def holds_query(corpus: str) -> bool:
    """Whether storing it would store a query."""
    return bool(HTTP.match(corpus.strip())) and storable(corpus) != corpus.strip().partition("#")[0]


def requested(corpus: str) -> str:
    """The whole address behind what is stored.

    Raises:
        InputError: it is known to another process alone, or the variable holds none.
    """
    text = corpus.strip()
    if found := VARIABLE.fullmatch(text):
        address = os.environ.get(found[1], "").strip()
        if not HTTP.match(address):
            raise InputError(
                f"corpus {text}: the variable {found[1]} holds no http(s) address: set it where the run works"
            )
        return address
    if MARK.search(text) and text not in _queries:
        raise InputError(
            f"corpus {shown(text)}: the query of this address is not stored: give the whole address with "
            f"--corpus, or {BY_VARIABLE}"
        )
    return _queries.get(text, text)
