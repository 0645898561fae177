"""Sources: what a corpus can be, and where it lies.

`cornell` and `sample` by name, or the path of a zip or folder, or an http(s) address of a zip.
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

from corpus.layout import MEMBERS
from corpus.transfer import addresses, copies
from corpus.transfer.addresses import HTTP
from corpus.transfer.archive import check_held, paths_in
from corpus.transfer.guard import ANYWHERE, Again, Reach, Refused
from corpus.transfer.http import Limits, fetch, headers_of, unreached
from models.addresses import bare, shown
from models.errors import InputError, did_you_mean
from models.files import is_utf8, sha256

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60  # for which what a server has said holds: plan and download ask the same
_answers: dict[tuple[str, Path, Reach], tuple[float, str]] = {}

NAMES = ("cornell", "sample")
FORMS = f"give one of {', '.join(NAMES)}, the path of a zip or folder, or an http(s) address"

# The plain-http original and its old mirror: what makes them safe is the pins. A git blob id is
# the sha1 of "blob SIZE\0" and the bytes; the members' stand in eight public repositories.
CORNELL = (
    "http://www.cs.cornell.edu/~cristian/data/cornell_movie_dialogs_corpus.zip",
    "http://www.mpi-sws.org/~cristian/data/cornell_movie_dialogs_corpus.zip",
)
CORNELL_PINS = {
    "movie_lines.txt": "66ea02a571e1c98f42bc216ccac6e29ccb406abe",
    "movie_conversations.txt": "da1255f6ff989da0d658563cc17182ef31250b33",
    # For the record: a mirror that packed the same members anew is as good, so nothing checks it.
    "cornell_movie_dialogs_corpus.zip": "968aac7176aee3f9c8013a51c785c17e5743d038",
}


@dataclass(frozen=True)
class Source:
    kind: Literal["sample", "local", "http"]
    name: str
    """Short, for people; safe as a file name."""
    locations: tuple[str, ...] = ()
    """One local path, or the mirrors in the order to try."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Git blob ids by file name, where they are known."""


def resolve(corpus: str) -> Source:
    """What `corpus` means.

    Raises:
        InputError: nothing, or a path where no corpus is.
    """
    text = corpus.strip()
    if text == "sample":
        return Source("sample", text)
    if text == "cornell":
        return Source("http", text, CORNELL, CORNELL_PINS)
    if HTTP.match(text) or addresses.VARIABLE.fullmatch(text):
        return _at_address(addresses.requested(text))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)  # of one letter: a drive
    path = _existing(text)
    if path is not None:
        return _at_path(path)
    if scheme and scheme[1] == "env":
        raise InputError(f"corpus {shown(text)}: a variable of a corpus is called REPARTEE_CORPUS_NAME")
    if scheme:
        raise InputError(f"corpus {shown(text)}: {scheme[1]}: addresses are not supported: {FORMS}")
    if re.search(r"[/\\~]|\.(zip|txt|jsonl?|parquet)$", text):
        raise InputError(f"corpus {shown(text)}: there is no such file or folder: check the path")
    hint = did_you_mean(text.lower(), NAMES) or FORMS
    raise InputError(f"corpus {shown(text)}: there is no such corpus: {hint}")


def name_of(corpus: str) -> str:
    """Short, for the names of runs: `cornell-standin` of a path that ends so."""
    text = corpus.strip()
    if HTTP.match(text):
        try:
            return _name_at(bare(text).partition("?")[0])
        except ValueError:
            return "corpus"
    if addresses.VARIABLE.fullmatch(text):
        return text.removeprefix("env:REPARTEE_CORPUS_").lower()
    return Path(text.rstrip("/")).stem or text


def is_foreign(corpus: str, home: Path) -> bool:
    """Whether it is a file of this machine that lies outside of `home`."""
    text = corpus.strip()
    if text in NAMES or HTTP.match(text) or addresses.VARIABLE.fullmatch(text):
        return False
    try:
        return not Path(text).expanduser().resolve().is_relative_to(home.resolve())
    except (OSError, RuntimeError, ValueError):
        return True


def identity(source: Source, folder: Path, *, reach: Reach = ANYWHERE) -> str:
    """A stand-in for the content, to plan with: equal identity, equal corpus.

    `folder` is where copies of what came over the network lie. An address is asked once a minute. If
    it does not answer, the copy from earlier is the corpus; if its server does not tell one content
    from another, the bytes do.

    Raises:
        InputError: a file cannot be read, or an address not be reached.
    """
    if source.kind == "sample":
        return ""
    if source.pins:
        return _digest("pins", dict(source.pins))
    if source.kind == "local":
        path = Path(source.locations[0])
        files = paths_in(path, MEMBERS) if path.is_dir() else [path]
        return _digest("files", [_sha256(file) for file in files])
    key = (source.locations[0], folder, reach)
    at_s, known = _answers.get(key, (-math.inf, ""))
    if time.monotonic() - at_s > ANSWER_SECONDS:
        known = _identity_at_address(source, folder, reach)
        _answers[key] = (time.monotonic(), known)
    return known


def _identity_at_address(source: Source, folder: Path, reach: Reach) -> str:
    (url,) = source.locations
    try:
        if found := headers_of(url, reach=reach):
            return _of_headers(url, found)
    except Refused as refusal:
        raise InputError(f"corpus {shown(url)}: {refusal}: check the address") from None
    except Again as failure:
        if copies.is_whole(archive_in(folder, source), [url]):
            log.warning("%s: %s; the copy downloaded earlier is used", shown(url), failure)
            return identity_of_copy(source, folder)
        if failure.unreachable:
            raise unreached(url, failure) from None
    check = lambda path: check_held(path, MEMBERS)  # noqa: E731
    archive = archive_in(folder, source)
    fetch([url], archive, limits=Limits(), progress=show_progress, check=check, reach=reach)
    return _digest("bytes", _sha256(archive))


def identity_of_copy(source: Source, folder: Path) -> str:
    """The identity of what was downloaded from an address before; "" if nothing was."""
    archive, url = archive_in(folder, source), source.locations[0]
    if source.pins:
        return identity(source, folder) if archive.is_file() else ""  # the check compares the pins
    if not copies.is_whole(archive, [url]):
        return ""
    if headers := copies.read_state(archive, url).get("headers"):
        return _of_headers(url, headers)
    return _digest("bytes", _sha256(archive))


def archive_in(folder: Path, source: Source) -> Path:
    """Where the copy of an address lies; its query, which may be new each time, makes no other file."""
    if source.pins:
        return folder / source.name
    return folder / f"{source.name}-{hashlib.sha256(shown(source.locations[0]).encode()).hexdigest()[:8]}"


def show_progress(done_bytes: int, total_bytes: int | None) -> None:
    of = f" of {total_bytes / 1e6:.1f}" if total_bytes else ""
    logging.getLogger("progress").info("download: %.1f%s MB", done_bytes / 1e6, of)


def _of_headers(url: str, headers: Mapping[str, str]) -> str:
    # Without a user and password, which somebody could find by trying.
    query = url.partition("#")[0].partition("?")[2]
    return _digest("address", [shown(url), query, dict(headers)])


def _at_address(url: str) -> Source:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise InputError(f"corpus {shown(url)} is not an address with a host: give http(s)://HOST/FILE.zip")
    return Source("http", _name_at(url), (url,))


def _name_at(url: str) -> str:
    """Safe as the name of a file."""
    parts = urlsplit(url)
    stem = PurePosixPath(unquote(parts.path)).stem
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80] for text in (stem, parts.hostname or "")]
    return names[0] or names[1] or "corpus"


def _existing(text: str) -> Path | None:
    """The path, if there is something; what cannot be a path is none."""
    try:
        path = Path(text).expanduser()
        return path if text and path.exists() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _at_path(path: Path) -> Source:
    if not (path.is_dir() or path.is_file()):
        raise InputError(f"corpus {path} is neither a file nor a folder: {FORMS}")
    check_held(path, MEMBERS)
    whole = path.resolve()
    if not is_utf8(str(whole)):
        raise InputError(f"corpus {str(whole)!r}: its path is not valid UTF-8; rename it")
    return Source("local", (whole.name if path.is_dir() else whole.stem) or "corpus", (str(whole),))


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def _digest(kind: str, content: object) -> str:
    """A hash even of an address: it may hold a password, and identities are kept in manifests."""
    return f"{kind}:{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"
