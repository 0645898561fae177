"""Sources: what a corpus can be, and where it lies.

`cornell` and `sample` by name, or the path of a zip or folder, or an http(s) address of a zip.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from models.errors import InputError
from models.files import is_utf8, sha256
from tasks.fetch import probe, shown
from tasks.unpack import check_held, paths_in

log = logging.getLogger(__name__)

MEMBERS = ("movie_lines.txt", "movie_conversations.txt")
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
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)  # of one letter: a drive
    if scheme and scheme[1].lower() in ("http", "https"):
        return _at_address(text)
    path = _existing(text)
    if path is not None:
        return _at_path(path)
    if scheme:
        raise InputError(f"corpus {shown(text)}: {scheme[1]}: addresses are not supported: {FORMS}")
    if re.search(r"[/\\~]|\.(zip|txt|jsonl?|parquet)$", text):
        raise InputError(f"corpus {text[:300]!r}: there is no such file or folder: check the path")
    close = get_close_matches(text.lower(), NAMES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else FORMS
    raise InputError(f"corpus {text[:300]!r}: there is no such corpus: {hint}")


def is_foreign(corpus: str, home: Path) -> bool:
    """Whether it is a file of this machine that lies outside of `home`."""
    text = corpus.strip()
    if text in NAMES or re.match(r"https?:", text, re.IGNORECASE):
        return False
    try:
        return not Path(text).expanduser().resolve().is_relative_to(home.resolve())
    except (OSError, RuntimeError, ValueError):
        return True


def identity(source: Source) -> str:
    """A cheap stand-in for the content, to plan with: equal identity, equal corpus."""
    if source.kind == "sample":
        return ""
    if source.pins:
        return _digest("pins", dict(source.pins))
    if source.kind == "local":
        path = Path(source.locations[0])
        files = paths_in(path, MEMBERS) if path.is_dir() else [path]
        return _digest("files", [_sha256(file) for file in files])
    found = probe(source.locations[0])
    if found is None:
        log.warning("%s is not reached: whether it has changed cannot be told", shown(source.locations[0]))
    return _digest("address", [source.locations[0], found or {}])


def _at_address(url: str) -> Source:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(
            f"corpus {shown(url)} is not an address ({error}): give http(s)://HOST/FILE.zip"
        ) from None
    if not host:
        raise InputError(f"corpus {shown(url)} has no host: give http(s)://HOST/FILE.zip")
    stem = PurePosixPath(unquote(parts.path)).stem
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:80] for text in (stem, host)]
    return Source("http", names[0] or names[1] or "corpus", (url,))


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
