"""Addresses: separates the part of a corpus's address that may be stored from the part that may be secret.

Prefect, MLflow and the manifests store the settings of a run permanently. The query string of an address may
contain a token, so only a hash of it is stored, and the query string itself stays in this process. An address
that contains a username or a password is refused. `env:REPARTEE_CORPUS_NAME` stands for the whole address,
which is read from the environment variable REPARTEE_CORPUS_NAME.
"""

import hashlib
import os
import re

from corpus.hub.address import read_address
from corpus.object_store import address as object_store
from models.addresses import redact_corpus
from models.errors import InputError

HTTP_SCHEME = re.compile(r"https?:", re.IGNORECASE)
HUB_SCHEME = "hf:"
VARIABLE = re.compile(r"env:(REPARTEE_CORPUS_[A-Z0-9_]+)")
QUERY_HASH = re.compile(r"\?redacted-[0-9a-f]{8}")
# A secret is safe in an environment variable, because the environment of a process is never stored.
BY_VARIABLE = (
    "put the whole address into an environment variable REPARTEE_CORPUS_NAME (NAME is up to you) and give "
    "env:REPARTEE_CORPUS_NAME as the corpus"
)

_FORM_SOURCE = (
    r"([Hh][Tt][Tt][Pp][Ss]?://[^\s/?#@]+(/[^\s?#]*)?(\?redacted-[0-9a-f]{8})?( ?=[0-9.]+)?"
    r"|env:REPARTEE_CORPUS_[A-Z0-9_]+( ?=[0-9.]+)?"
    r"|hf:[A-Za-z0-9][A-Za-z0-9._-]*/((?! \+ )[^:?#\r\n])+"
    r"|(s3|gs)://[a-z0-9][a-z0-9._-]+(/((?! \+ )[^?#\r\n])*)?|((?! \+ )[^:\r\n])+)"
)
FORM_PATTERN = rf"^{_FORM_SOURCE}(( \+ |[\r\n]+){_FORM_SOURCE})*$"
"""What a deployment's form accepts as a corpus: text without any part that may be secret. The scheme of an
address must be http(s), hf, s3, gs or env. Several sources are separated as in corpus/mix.py."""

_full_addresses: dict[str, str] = {}  # whole addresses by stored form; never written to disk


def stored_form(corpus: str) -> str:
    """The form in which a corpus's address may be stored: a hash replaces the query string.

    The query string itself is kept only in memory.

    Raises:
        InputError: the address contains a username or a password, or it names no data set of the hub
            although it begins with hf, or no objects in a bucket although it begins with s3 or gs.
    """
    text = corpus.strip()
    if text.startswith(HUB_SCHEME):
        return str(read_address(text))
    if text.startswith(object_store.SCHEMES):
        return str(object_store.read_address(text))
    if not HTTP_SCHEME.match(text):
        return corpus
    address, _, _ = text.partition("#")
    base, has_query, query = address.partition("?")
    if "@" in text and _holds_login(base):
        raise InputError(
            f"corpus {redact_corpus(text)}: a username and password in an address would be stored with the "
            f"run: put them into ~/.netrc (machine {_host(text)} login USER password PASSWORD), or "
            f"{BY_VARIABLE}"
        )
    if not has_query or QUERY_HASH.fullmatch(f"?{query}"):
        return address
    stored = f"{base}?redacted-{hashlib.sha256(query.encode()).hexdigest()[:8]}"
    _full_addresses[stored] = address
    return stored


def _host(address: str) -> str:
    """The host of an address, or the word HOST if the address cannot be parsed."""
    found = re.match(r"https?://([^/:]+)", redact_corpus(address))
    return found[1] if found else "HOST"


def _holds_login(base: str) -> bool:
    """Whether a username precedes the host, or the port is not a number and may be part of a password."""
    host = base.partition(":")[2].lstrip("/").partition("/")[0]
    port = re.sub(r"\[.*\]", "", host).partition(":")[2]
    return "@" in host or not re.fullmatch(r"\d*", port)


def holds_query(corpus: str) -> bool:
    """Whether the address has a query string that has not yet been replaced by its hash.

    Raises:
        InputError: the address contains a username or a password.
    """
    return bool(HTTP_SCHEME.match(corpus.strip())) and stored_form(corpus) != corpus.strip().partition("#")[0]


def full_address(corpus: str) -> str:
    """The whole address of a corpus, including the query string that its stored form lacks.

    Raises:
        InputError: this process does not know the query string, or the variable contains no address.
    """
    text = corpus.strip()
    if found := VARIABLE.fullmatch(text):
        address = os.environ.get(found[1], "").strip()
        if not HTTP_SCHEME.match(address):
            raise InputError(
                f"corpus {text}: the variable {found[1]} contains no http(s) address: set it in the "
                "run's environment"
            )
        return address
    if QUERY_HASH.search(text) and text not in _full_addresses:
        raise InputError(
            f"corpus {redact_corpus(text)}: the query string of this address is not stored: give the whole "
            f"address with --corpus, or {BY_VARIABLE}"
        )
    return _full_addresses.get(text, text)
