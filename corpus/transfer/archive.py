"""Archive: finds files in a zip or a folder, and opens them.

An archive is not trusted: its table of contents is bounded, and an entry that is encrypted, that leads
outside the archive, or that shares bytes with another entry is not read.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISLNK
from typing import IO

from corpus.transfer.limits import UnpackLimits
from corpus.transfer.members import Member, all_in_folder, list_names, members_in_folder, missing_error
from models.errors import InputError

DOWNLOAD_AGAIN = "download the archive again, or give another one with --corpus PATH"
DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    ValueError,
    RuntimeError,
    NotImplementedError,
    IndexError,
)
"""The exceptions that the standard library raises for damaged or forged archives."""


def check_members(source: Path, members: tuple[str, ...]) -> None:
    """Check that the source contains each of `members` exactly once.

    Raises:
        InputError: the source cannot be read, or a member is missing or not unique; the message says what
            the source contains instead.
    """
    with open_members(source, members, UnpackLimits()):
        pass


def paths_in(folder: Path, members: tuple[str, ...]) -> list[Path]:
    """The paths of `members` in a folder.

    Raises:
        InputError: the folder does not contain each member exactly once, or it cannot be read.
    """
    return [member.source for member in members_in_folder(folder, members).values()]


@contextmanager
def open_members(source: Path, members: tuple[str, ...], limits: UnpackLimits) -> Iterator[dict[str, Member]]:
    """Each of `members` by its name, for reading inside the context.

    Raises:
        InputError: the source cannot be read, or a member is missing, not unique or not safe to read.
    """
    if source.is_dir():
        yield members_in_folder(source, members)
        return
    with _open_zip(source, limits) as archive:
        _check_overlap(source, archive)
        found = {}
        for name in members:
            info = _find_member(source, name, archive.infolist(), members)
            found[name] = Member(source, name, info.file_size, info.compress_size, info, archive)
        yield found


@contextmanager
def all_members(source: Path) -> Iterator[list[Member]]:
    """The files of a folder or a zip, or `source` itself if it is another file. No hidden file is listed.

    Raises:
        InputError: the source cannot be read, or a file in the zip cannot be read safely.
    """
    if source.is_dir():
        yield all_in_folder(source)
    elif not is_zip(source):
        yield [Member(source, source.name, size := source.stat().st_size, size)]
    else:
        with _open_zip(source, UnpackLimits()) as archive:
            _check_overlap(source, archive)
            infos = [info for info in archive.infolist() if _is_listed(info)]
            for info in infos:
                _check_readable(source, info)
            yield [
                Member(source, info.filename, info.file_size, info.compress_size, info, archive)
                for info in infos
            ]


def is_zip(source: Path) -> bool:
    """Whether a file begins like a zip, or is called one; False for a folder.

    Raises:
        InputError: the file cannot be read.
    """
    if source.is_dir():
        return False
    try:
        with source.open("rb") as file:
            return file.read(2) == b"PK" or source.suffix.lower() == ".zip"
    except OSError as error:
        raise _unreadable_error(source, error) from None


class _BoundedReader:
    """A file for `zipfile` in which no single read may exceed the limit for the table of contents."""

    def __init__(self, file: IO[bytes], name: str, max_bytes: int) -> None:
        self._file, self._name, self._max_bytes = file, name, max_bytes
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._max_bytes:
            raise InputError(
                f"{self._name}: its table of contents takes {size} bytes, "
                f"more than directory_bytes={self._max_bytes}: {DOWNLOAD_AGAIN}"
            )
        return self._file.read(size)


@contextmanager
def _open_zip(source: Path, limits: UnpackLimits) -> Iterator[zipfile.ZipFile]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise _unreadable_error(source, error) from None
    with file:
        head = file.read(512)
        try:
            archive = zipfile.ZipFile(_BoundedReader(file, source.name, limits.directory_bytes))
        except DAMAGE_ERRORS as error:
            raise _not_a_zip_error(source, head, error) from None
        with archive:
            entries = len(archive.infolist())
            if entries > limits.entries:
                limit = f"more than entries={limits.entries}"
                raise InputError(f"{source.name} has {entries} entries, {limit}: {DOWNLOAD_AGAIN}")
            yield archive


def _unreadable_error(source: Path, error: OSError) -> InputError:
    return InputError(f"{source} cannot be read ({error.strerror}): check the path and its permissions")


def _not_a_zip_error(source: Path, head: bytes, error: Exception) -> InputError:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<html", b"<!doctype", b"<head", b"<?xml")):
        return InputError(
            f"{source.name}: got HTML, not a zip: open the address in a browser to see what the page says"
        )
    if head.startswith(b"PK\x03\x04"):
        return InputError(f"{source.name} is a damaged or truncated zip ({error}): {DOWNLOAD_AGAIN}")
    return InputError(f"{source.name} is not a zip: give a zip, or a folder with the unpacked files")


def _check_overlap(source: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose entries share bytes: even a small one can unpack to any size (CVE-2024-0450)."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos), archive.start_dir][1:]
    for info, end in zip(infos, ends, strict=True):
        # A local header has 30 bytes, not counting its name (section 4.3.7 of PKWARE's APPNOTE.TXT).
        if info.header_offset < 0 or info.header_offset + 30 + info.compress_size > end:
            raise InputError(f"{source.name} has overlapping entries, like a zip bomb: {DOWNLOAD_AGAIN}")


def _find_member(
    source: Path, name: str, infos: list[zipfile.ZipInfo], members: tuple[str, ...]
) -> zipfile.ZipInfo:
    """Return the only entry for the member `name`, having checked that it can be read safely."""
    candidates = [
        info for info in infos if not info.is_dir() and _is_content(info) and _file_name(info).lower() == name
    ]
    found = [info for info in candidates if _stays_inside(info)]
    if len(found) > 1:
        paths = list_names([info.filename for info in found])
        raise InputError(
            f"{source.name} holds {name} {len(found)} times ({paths}): unpack it and give the right folder"
        )
    if not found and candidates:
        raise InputError(
            f"{source.name} holds {name} only as a symbolic link or under a path that leads outside the "
            f"archive: {DOWNLOAD_AGAIN}"
        )
    if not found:
        names = [_file_name(info) for info in infos if not info.is_dir() and _is_content(info)]
        raise missing_error(source, name, members, names)
    _check_readable(source, found[0])
    return found[0]


def _check_readable(source: Path, info: zipfile.ZipInfo) -> None:
    name = list_names([_file_name(info)])
    if info.flag_bits & 0x1:
        raise InputError(f"{source.name}: {name} is encrypted: unpack it and give the folder")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The standard library's bzip2 and LZMA readers may unpack 80 MB during a single small read.
        raise InputError(f"{source.name}: {name} is not deflate-compressed: unpack it and give the folder")


def _is_listed(info: zipfile.ZipInfo) -> bool:
    is_hidden = any(part.startswith(".") for part in _path_parts(info))
    return not info.is_dir() and not is_hidden and _is_content(info) and _stays_inside(info)


def _file_name(info: zipfile.ZipInfo) -> str:
    return _path_parts(info)[-1]


def _path_parts(info: zipfile.ZipInfo) -> list[str]:
    return info.orig_filename.replace("\\", "/").split("/")


def _is_content(info: zipfile.ZipInfo) -> bool:
    """Whether the entry is a real file, and not a file in which macOS stores another file's attributes."""
    return "__MACOSX" not in _path_parts(info)


def _stays_inside(info: zipfile.ZipInfo) -> bool:
    """Whether a tool that uses the archive's own paths would unpack the entry inside the target folder."""
    parts = _path_parts(info)
    outside = parts[0] == "" or ".." in parts or parts[0][1:2] == ":" or "\0" in info.orig_filename
    return not outside and not S_ISLNK(info.external_attr >> 16)
