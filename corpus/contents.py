"""Contents: which files of a folder, an archive or an address belong to a corpus.

If the two Cornell files are there, only they are taken. Otherwise every file is taken that holds JSON, a
table or text; when the readers open the file, its content decides what it holds.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from corpus.layout import FILES, MEMBERS, TABLES, stored_files
from corpus.readers.encodings import encoding_of
from corpus.readers.opening import DAMAGE_ERRORS, decompressed, sample_of
from corpus.readers.tables import ARROW_FILE, ARROW_STREAM, PARQUET
from corpus.transfer import archive
from corpus.transfer.archive import all_members, check_members, paths_in
from corpus.transfer.limits import UnpackLimits
from corpus.transfer.members import Member, list_names
from corpus.transfer.unpacking import unpack, write_members
from models.errors import InputError

FORMATS_PAGE = "docs/corpora.md shows the formats that can be read"
HEAD_BYTES = 4096
MAX_FILES = 10_000
NAME_BYTES = 200  # file systems allow 255, and a file that is being written has a longer name
UNLIMITED = UnpackLimits(member_bytes=sys.maxsize, total_bytes=sys.maxsize)  # for the user's own files
# Files that accompany data sets, and that are never the data itself.
OTHER_SUFFIXES = (
    ".md", ".rst", ".html", ".htm", ".pdf", ".py", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".lock", ".log",
)  # fmt: skip
# Control characters that texts do not have, except by mistake. Compressed data have about 10 % of them.
CONTROL_BYTES = bytes(sorted({*range(32)} - {*b"\t\n\v\f\r\x1b"}))
MAX_CONTROL_SHARE = 0.02


def check_contents(source: Path) -> None:
    """Check that there is something in a file, folder or zip that the readers could read.

    Raises:
        InputError: there is not, or the source cannot be read; the message says what it holds instead.
    """
    if names := cornell_names(source):
        check_members(source, names)
        return
    with _data_members(source):
        pass


def unpack_contents(source: Path, out: Path, *, pins: Mapping[str, str], name: str = "") -> dict[str, str]:
    """Write the corpus's files to `out` (Cornell) or `out`/files; return their SHA-256 digests by name.

    Args:
        pins: the git blob ids of the files whose content is known.
        name: the name of the file, if `source` is a single file and is stored under another name.

    Raises:
        InputError: the source holds no corpus, is damaged or dangerous, or does not match the pins.
    """
    if names := MEMBERS if pins else cornell_names(source):
        return unpack(source, names, out, pins=pins)
    with _data_members(source) as members:
        if name and len(members) == 1 and source.is_file() and not archive.is_zip(source):
            members = {_safe_name(name): next(iter(members.values()))}
        (out / FILES).mkdir()
        limits = UnpackLimits() if archive.is_zip(source) else UNLIMITED
        return write_members(members, out / FILES, pins=pins, limits=limits)


def unpack_files(files: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Write the corpus's files among these files to `out`, as `unpack_contents` does for a folder.

    The keys of `files` are their names. A zip is unpacked.

    Raises:
        InputError: none of them may hold conversations, or one is damaged or dangerous.
    """
    with ExitStack() as stack:
        found = {name: stack.enter_context(all_members(path)) for name, path in files.items()}
        members = [
            member if member.archive else replace(member, name=name)
            for name, each in found.items()
            for member in each
        ]
        by_name = {_file_name(member).lower(): member for member in members}
        for names in (MEMBERS, TABLES):
            if set(names) <= by_name.keys():
                return write_members({name: by_name[name] for name in names}, out, pins={}, limits=UNLIMITED)
        named = _data_by_name(members)
        if not named:
            raise InputError(f"{list_names(list(files))} hold no conversations; {FORMATS_PAGE}")
        (out / FILES).mkdir()
        packed = {name: member for name, member in named.items() if member.archive}
        own = {name: member for name, member in named.items() if not member.archive}
        digests = write_members(packed, out / FILES, pins={}, limits=UnpackLimits())
        return digests | write_members(own, out / FILES, pins={}, limits=UNLIMITED)


def files_in(folder: Path) -> list[Path]:
    """The paths of a corpus's files in a folder.

    Raises:
        InputError: the folder holds no corpus, or it cannot be read.
    """
    if names := cornell_names(folder):
        return paths_in(folder, names)
    with _data_members(folder) as members:
        return [member.source for member in members.values()]


@contextmanager
def open_contents(source: Path) -> Iterator[dict[str, Path]]:
    """The files of a corpus by name. They are not copied; only a zip is unpacked, to a temporary folder.

    Raises:
        InputError: the source holds no corpus, or is damaged or dangerous.
    """
    if not source.is_dir() and archive.is_zip(source):
        with TemporaryDirectory(prefix="repartee-") as folder:
            unpack_contents(source, Path(folder), pins={})
            yield stored_files(Path(folder))
    elif names := cornell_names(source):
        yield dict(zip(names, paths_in(source, names), strict=True))
    else:
        with _data_members(source) as members:
            files = {name: member.source for name, member in members.items()}
        yield files


def cornell_names(source: Path) -> tuple[str, ...]:
    """The names of the two Cornell files, if at least one of them is in the source; otherwise ().

    Raises:
        InputError: the source cannot be read, or it is one of the two files itself.
    """
    with all_members(source) as members:
        found = {_file_name(member).lower() for member in members}
    for names in (MEMBERS, TABLES):
        if found & set(names):
            if source.is_file() and not archive.is_zip(source):
                raise InputError(f"{source} is one of two files: give the folder with {' and '.join(names)}")
            return names
    return ()


@contextmanager
def _data_members(source: Path) -> Iterator[dict[str, Member]]:
    """The files that may hold conversations, by the names under which they are stored."""
    with all_members(source) as members:
        if len(members) > MAX_FILES:
            raise InputError(
                f"{source.name} has {len(members):,} files: give the folder with the conversations"
            )
        named = _data_by_name(members)
        if not named:
            raise _nothing_error(source, members)
        yield named


def _data_by_name(members: list[Member]) -> dict[str, Member]:
    usable = [member for member in members if _may_hold_data(member)]
    return dict(sorted(zip(_unique_names(usable), usable, strict=True)))


def _may_hold_data(member: Member) -> bool:
    if PurePosixPath(member.name).suffix.lower() in OTHER_SUFFIXES:
        return False
    head = _head(member)
    if head.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)):
        return True
    is_html = head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head"))
    controls = len(head) - len(head.translate(None, CONTROL_BYTES))
    is_binary = controls > MAX_CONTROL_SHARE * len(head) and encoding_of(head)[0] is None
    return not (is_html or is_binary or _is_tar(head))


def _head(member: Member) -> bytes:
    try:
        with member.open() as file:
            return sample_of(decompressed(file), HEAD_BYTES)
    except (*archive.DAMAGE_ERRORS, *DAMAGE_ERRORS) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{member} cannot be read ({reason}): copy the file again") from None


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _nothing_error(source: Path, members: list[Member]) -> InputError:
    if not members:
        return InputError(f"{source.name} holds no files: give a file, a folder or a zip; {FORMATS_PAGE}")
    if len(members) > 1 or members[0].source != source or members[0].archive:
        names = list_names([_file_name(member) for member in members])
        return InputError(f"{source.name} holds {names}, but no conversations; {FORMATS_PAGE}")
    head = _head(members[0])
    if _is_tar(head):
        return InputError(f"{source.name} is a tar archive: unpack it and give the folder")
    if head.lstrip().startswith(b"<"):
        return InputError(
            f"{source.name} is HTML, not a corpus: open the address in a browser to see what the page says"
        )
    return InputError(f"{source.name} is neither text nor Parquet nor a zip; {FORMATS_PAGE}")


def _unique_names(members: list[Member]) -> list[str]:
    """A name for each file: its own one, or its path if another file has the same name."""
    own = [_safe_name(_file_name(member)) for member in members]
    paths = [_safe_name(member.name) for member in members]
    own_counts = Counter(own)
    names = [name if own_counts[name] == 1 else path for name, path in zip(own, paths, strict=True)]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{i}-{name}" for i, name in enumerate(names)]


def _file_name(member: Member) -> str:
    return member.name.replace("\\", "/").rpartition("/")[2]


def _safe_name(name: str) -> str:
    """The name as the name of a file: without separators and control characters, and not too long."""
    name = re.sub(r"[/\\\x00-\x1f\x7f]+", "-", name.encode("utf-8", "replace").decode()).lstrip(".-")
    return name.encode()[-NAME_BYTES:].decode("utf-8", "ignore") or "file"
