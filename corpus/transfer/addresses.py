"""Addresses: separates the part of a corpus's address that may be stored from the part that may be secret.

Prefect, MLflow and the manifests store the settings of a run permanently. An address's query may hold a
token, so only a hash of the query is stored, and the query itself stays in this process. An address that
holds a user or a password is refused. `env:REPARTEE_CORPUS_NAME` stands for the whole address that the
variable REPARTEE_CORPUS_NAME holds.
"""

import hashlib
import os
import re

from models.addresses import redact_corpus
from models.errors import InputError

HTTP_SCHEME = re.compile(r"https?:", re.IGNORECASE)
VARIABLE = re.compile(r"env:(REPARTEE_CORPUS_[A-Z0-9_]+)")
QUERY_HASH = re.compile(r"\?redacted-[0-9a-f]{8}")
# This remedy is safe, because the environment of a process is never stored.
BY_VARIABLE = (
    "put the whole address into an environment variable REPARTEE_CORPUS_NAME (with any NAME) and give "
    "env:REPARTEE_CORPUS_NAME"
)

FORM_PATTERN = (
    r"^([Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+(/[^\s?#]*)?(\?redacted-[0-9a-f]{8})?"
    r"|env:REPARTEE_CORPUS_[A-Z0-9_]+|[^:]+)$"
)
"""A pattern for the corpus in a deployment's form: no part may be secret, and any scheme must be http(s)."""

_full_addresses: dict[str, str] = {}  # whole addresses by their stored form; never written to the disk


def stored_form(corpus: str) -> str:
    """The form of a corpus that may be stored. A hash replaces the query, which only this process remembers.

    Raises:
        InputError: the address contains a user name or a password.
    """
    text = corpus.strip()
    if not HTTP_SCHEME.match(text):
        return corpus
    address, _, _ = text.partition("#")
    base, has_query, query = address.partition("?")
    if "@" in text and _holds_login(base):
        raise InputError(
            f"corpus {redact_corpus(text)}: a user and password in an address would be stored with the run: "
            f"put them into ~/.netrc (machine {_host(text)} login USER password PASSWORD), or {BY_VARIABLE}"
        )
    if not has_query or QUERY_HASH.fullmatch(f"?{query}"):
        return address
    stored = f"{base}?redacted-{hashlib.sha256(query.encode()).hexdigest()[:8]}"
    _full_addresses[stored] = address
    return stored


def _host(address: str) -> str:
    """The host of an address, or the word HOST if the address cannot be read."""
    found = re.match(r"https?://([^/:]+)", redact_corpus(address))
    return found[1] if found else "HOST"


def _holds_login(base: str) -> bool:
    """Whether a user precedes the host, or the port is not a number and may be the start of a password."""
    host = base.partition(":")[2].lstrip("/").partition("/")[0]
    port = re.sub(r"\[.*\]", "", host).partition(":")[2]
    return "@" in host or not re.fullmatch(r"\d*", port)


def holds_query(corpus: str) -> bool:
    """Whether the address has a query that has not yet been replaced by its hash.

    Raises:
        InputError: the address contains a user name or a password.
    """
    return bool(HTTP_SCHEME.match(corpus.strip())) and stored_form(corpus) != corpus.strip().partition("#")[0]


def full_address(corpus: str) -> str:
    """The whole address of a corpus, including its query, found from its stored form.

    Raises:
        InputError: only another process knows the query, or the variable holds no address.
    """
    text = corpus.strip()
    if found := VARIABLE.fullmatch(text):
        address = os.environ.get(found[1], "").strip()
        if not HTTP_SCHEME.match(address):
            raise InputError(
                f"corpus {text}: the variable {found[1]} has no http(s) address: set it in the "
                "run's environment"
            )
        return address
    if QUERY_HASH.search(text) and text not in _full_addresses:
        raise InputError(
            f"corpus {redact_corpus(text)}: the query of this address is not stored: give the whole address "
            f"with --corpus, or {BY_VARIABLE}"
        )
    return _full_addresses.get(text, text)
