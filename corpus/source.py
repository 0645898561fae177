"""Sources: determines where a corpus comes from, and identifies its content.

A corpus is specified as `cornell` or `sample`, as the path of a file, a zip or a folder, as the http(s)
address of a file or a zip, as `hf:` and the name of a data set of the Hugging Face hub, as the s3:// or gs://
address of objects in a bucket, or as `env:` and the name of an environment variable that contains an http(s)
address.
"""

import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from corpus.contents import check_contents, files_in
from corpus.hub import address as hub
from corpus.hub import copy
from corpus.object_store import address as object_store
from corpus.object_store import copy as object_copy
from corpus.object_store.address import SCHEMES
from corpus.transfer import addresses, copies
from corpus.transfer.addresses import HTTP_SCHEME, HUB_SCHEME
from corpus.transfer.guard import ANYWHERE, PermanentError, Reach, TransientError
from corpus.transfer.http import fetch, request_headers, unreachable_error
from corpus.transfer.limits import Limits
from models.addresses import redact_addresses, redact_corpus
from models.errors import InputError, did_you_mean
from models.files import is_utf8, sha256

log = logging.getLogger(__name__)

IDENTITY_CACHE_S = 60  # how long a server's answer is reused, so that a plan and its run use the same one
_cached_identities: dict[tuple[str, Path, Reach], tuple[float, str]] = {}

NAMES = ("cornell", "sample")
ACCEPTED_FORMS = (
    f"give {', '.join(NAMES)}, the path of a file or folder, or an http(s) address, or hf:ORG/NAME for a "
    "data set of the Hugging Face hub, or s3://BUCKET/PATH or gs://BUCKET/PATH"
)

# Neither the original server nor the mirror offers https, so the files are compared with pinned digests.
# A pin is a git blob id: the SHA-1 of "blob SIZE\0" followed by the bytes of the file. In eight public
# repositories, the two corpus files have these ids.
CORNELL = (
    "http://www.cs.cornell.edu/~cristian/data/cornell_movie_dialogs_corpus.zip",
    "http://www.mpi-sws.org/~cristian/data/cornell_movie_dialogs_corpus.zip",
)
CORNELL_PINS = {
    "movie_lines.txt": "66ea02a571e1c98f42bc216ccac6e29ccb406abe",
    "movie_conversations.txt": "da1255f6ff989da0d658563cc17182ef31250b33",
    # The id of the archive is not checked, because a mirror may have repacked the same files.
    "cornell_movie_dialogs_corpus.zip": "968aac7176aee3f9c8013a51c785c17e5743d038",
}


@dataclass(frozen=True)
class Source:
    """Where a corpus comes from."""

    kind: Literal["sample", "local", "http", "hub", "objects"]
    name: str
    """A short name for display, which is also safe as a file name."""
    locations: tuple[str, ...] = ()
    """One local path, one data set of the hub, one address in an object store, or the addresses of the
    mirrors in the order in which they are tried."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """The git blob ids of the files, by file name; empty if the ids are not known."""

    @property
    def file_name(self) -> str:
        """The name of the file at the address or path, with its suffix."""
        location = self.locations[0] if self.locations else self.name
        path = unquote(urlsplit(location).path) if self.kind == "http" else location
        return PurePosixPath(path).name or self.name


def resolve(corpus: str) -> Source:
    """The source that `corpus` refers to.

    Raises:
        InputError: `corpus` does not refer to a source, or it is a path at which there is no corpus.
    """
    text = corpus.strip()
    if text == "sample":
        return Source("sample", text)
    if text == "cornell":
        return Source("http", text, CORNELL, CORNELL_PINS)
    if HTTP_SCHEME.match(text) or addresses.VARIABLE.fullmatch(text):
        return _source_at_address(addresses.full_address(text))
    if text.startswith(HUB_SCHEME):
        data_set = hub.read_address(text)
        return Source("hub", hub.name_of(data_set), (str(data_set),))
    if text.startswith(SCHEMES):
        objects = object_store.read_address(text)
        return Source("objects", object_store.name_of(objects), (str(objects),))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)  # a single letter would be a Windows drive
    path = existing_path(text)
    if path is not None:
        return _source_at_path(path)
    if scheme and scheme[1] == "env":
        raise InputError(
            f"corpus {redact_corpus(text)}: the variable that holds the address must be called "
            "REPARTEE_CORPUS_NAME"
        )
    if scheme:
        raise InputError(
            f"corpus {redact_corpus(text)}: {scheme[1]}: addresses are not supported: {ACCEPTED_FORMS}"
        )
    if re.search(r"[/\\~]|\.(zip|txt|jsonl?|parquet)$", text):
        raise InputError(f"corpus {redact_corpus(text)}: there is no such file or folder: check the path")
    hint = did_you_mean(text.lower(), NAMES) or ACCEPTED_FORMS
    raise InputError(f"corpus {redact_corpus(text)}: there is no such corpus: {hint}")


def name_of(corpus: str) -> str:
    """A short name of a corpus, for use in run names; for a path, the file name without its suffix."""
    text = corpus.strip()
    if HTTP_SCHEME.match(text):
        try:
            return _file_name_of(redact_addresses(text).partition("?")[0])
        except ValueError:
            return "corpus"
    if text.startswith(HUB_SCHEME):
        return hub.name_of(hub.read_address(text))
    if text.startswith(SCHEMES):
        return object_store.name_of(object_store.read_address(text))
    if addresses.VARIABLE.fullmatch(text):
        return text.removeprefix("env:REPARTEE_CORPUS_").lower()
    return Path(text.rstrip("/")).stem or text


def is_path(corpus: str) -> bool:
    """Whether the corpus is a path on this machine, rather than a name, an address or a variable."""
    text = corpus.strip()
    is_address = HTTP_SCHEME.match(text) or text.startswith((HUB_SCHEME, *SCHEMES))
    return not (text in NAMES or is_address or addresses.VARIABLE.fullmatch(text))


def is_foreign(corpus: str, home: Path) -> bool:
    """Whether the corpus is a file or folder on this machine that is outside `home`."""
    if not is_path(corpus):
        return False
    try:
        return not Path(corpus.strip()).expanduser().resolve().is_relative_to(home.resolve())
    except (OSError, RuntimeError, ValueError):
        return True


def identity(source: Source, folder: Path, *, reach: Reach = ANYWHERE) -> str:
    """An identifier of a corpus's content: corpora with equal identifiers have equal content.

    A server is asked at most once a minute for the headers that identify its file. If the server does not
    answer, the copy that was downloaded to `folder` earlier is used. If the answer has no identifying
    headers, the file is downloaded and its bytes are hashed.

    Raises:
        InputError: a file cannot be read, or an address cannot be reached.
    """
    if source.kind == "sample":
        return ""
    if source.pins:
        return _digest("pins", dict(source.pins))
    if source.kind == "local":
        path = Path(source.locations[0])
        files = files_in(path) if path.is_dir() else [path]
        return _digest("files", [[file.name, _sha256(file)] for file in files])
    key = (source.locations[0], folder, reach)
    found_at_s, cached = _cached_identities.get(key, (-math.inf, ""))
    if time.monotonic() - found_at_s > IDENTITY_CACHE_S:
        find = {"hub": _identity_on_hub, "objects": _identity_in_store}.get(source.kind, _identity_at_address)
        cached = find(source, folder, reach)
        _cached_identities[key] = (time.monotonic(), cached)
    return cached


def _identity_on_hub(source: Source, folder: Path, reach: Reach) -> str:
    (location,) = source.locations
    return copy.identity(hub.read_address(location), archive_path(folder, source), reach=reach)


def _identity_in_store(source: Source, folder: Path, reach: Reach) -> str:
    (location,) = source.locations
    return object_copy.identity(object_store.read_address(location), archive_path(folder, source))


def _identity_at_address(source: Source, folder: Path, reach: Reach) -> str:
    (url,) = source.locations
    try:
        if headers := request_headers(url, reach=reach):
            return _identity_from_headers(url, headers)
    except PermanentError as refusal:
        raise InputError(f"corpus {redact_corpus(url)}: {refusal}: check the address") from None
    except TransientError as failure:
        if copies.is_complete(archive_path(folder, source), [url]):
            log.warning("%s: %s; the copy downloaded earlier is used", redact_corpus(url), failure)
            return identity_of_copy(source, folder)
        if failure.unreachable:
            raise unreachable_error(url, failure) from None
    archive = archive_path(folder, source)
    fetch([url], archive, limits=Limits(), progress=log_progress, check=check_contents, reach=reach)
    return _digest("bytes", _sha256(archive))


def identity_of_copy(source: Source, folder: Path) -> str:
    """The identity of the copy in `folder` that was downloaded earlier; "" if there is no complete copy.

    Raises:
        InputError: the copy cannot be read.
    """
    archive, url = archive_path(folder, source), source.locations[0]
    if source.pins:
        return identity(source, folder) if archive.is_file() else ""  # unpacking checks the pins
    if not copies.is_complete(archive, [url]):
        return ""
    if headers := copies.read_state(archive, url).get("headers"):
        return _identity_from_headers(url, headers)
    return _digest("bytes", _sha256(archive))


def archive_path(folder: Path, source: Source) -> Path:
    """The path of a source's downloaded copy, which is a folder for a data set of the hub and for objects.

    It does not depend on the query of an address, which may change.
    """
    if source.pins:
        return folder / source.name
    address = redact_corpus(source.locations[0])
    return folder / f"{source.name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def log_progress(done_bytes: int, total_bytes: int | None) -> None:
    """Log the progress of a download, for display in the terminal."""
    total = f" of {total_bytes / 1e6:.1f}" if total_bytes else ""
    logging.getLogger("progress").info("download: %.1f%s MB", done_bytes / 1e6, total)


def _identity_from_headers(url: str, headers: Mapping[str, str]) -> str:
    # The username and password are left out, because an attacker could find them by hashing guesses.
    query = url.partition("#")[0].partition("?")[2]
    return _digest("address", [redact_corpus(url), query, dict(headers)])


def _source_at_address(url: str) -> Source:
    hub.check_page(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise InputError(
            f"corpus {redact_corpus(url)} is not an address with a host: give http(s)://HOST/FILE"
        )
    return Source("http", _file_name_of(url), (url,))


def _file_name_of(url: str) -> str:
    """A name that is safe as a file name: the last part of the path, or the host if the path is empty."""
    parts = urlsplit(url)
    stem = PurePosixPath(unquote(parts.path)).stem
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80] for text in (stem, parts.hostname or "")]
    return names[0] or names[1] or "corpus"


def existing_path(text: str) -> Path | None:
    """The path if it exists; None if it does not, or if the text cannot be a path."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _source_at_path(path: Path) -> Source:
    if not (path.is_dir() or path.is_file()):
        raise InputError(f"corpus {path} is neither a file nor a folder: {ACCEPTED_FORMS}")
    check_contents(path)
    absolute = path.resolve()
    if not is_utf8(str(absolute)):
        raise InputError(f"corpus {str(absolute)!r}: the path is not valid UTF-8: rename the file or folder")
    return Source("local", (absolute.name if path.is_dir() else absolute.stem) or "corpus", (str(absolute),))


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _digest(kind: str, content: object) -> str:
    """A hash of the content. The hash is stored, so it must not reveal an address that contains secrets."""
    return f"{kind}:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"
