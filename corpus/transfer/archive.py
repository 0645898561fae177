"""Unpack: the wanted files out of a zip or a folder, and nothing else.

An archive is not trusted: no path in it is ever used, its sizes are counted and not believed, and
only its wanted members are read at all.
"""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISLNK
from typing import IO

from models.errors import InputError

CHUNK_BYTES = 2**18
AGAIN = "download it again, or give another one with --corpus PATH"
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    struct.error,
    ValueError,
    RuntimeError,
    NotImplementedError,
    IndexError,
)
"""What the standard library raises on torn or forged archives."""


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may cost; crossing one ends it with a message that names it."""

    member_bytes: int = 4 * 2**30
    total_bytes: int = 4 * 2**30
    ratio: int = 200
    """Bytes out for one byte in, past `ratio_from_bytes`; English text comes to 3 or 4."""
    ratio_from_bytes: int = 10 * 2**20
    entries: int = 10_000
    directory_bytes: int = 2 * 2**20
    """Of the archive's table of contents, which is read into memory whole."""


def unpack(
    source: Path,
    members: tuple[str, ...],
    out: Path,
    *,
    pins: Mapping[str, str],
    limits: UnpackLimits | None = None,
) -> dict[str, str]:
    """Write each of `members` as out/NAME, flushed; returns the SHA-256 of each.

    `pins` are git blob ids (they pin the size, too) of those members that must be just so.

    Raises:
        InputError: it is no archive, a damaged or dangerous one, or not the one that was pinned.
    """
    limits = limits or UnpackLimits()
    digests: dict[str, str] = {}
    total_bytes = 0
    with _members(source, members, limits) as found:
        for name, member in found.items():
            if total_bytes + member.size_bytes > limits.total_bytes:
                raise _bomb(source.name, name, f"total_bytes={limits.total_bytes}")
            digests[name] = _write(member, out / name, limits, pin=pins.get(name))
            total_bytes += member.size_bytes
    return digests


def check_held(source: Path, members: tuple[str, ...]) -> None:
    """Raise InputError, which says what is there instead, unless `members` are there, each once."""
    with _members(source, members, UnpackLimits()):
        pass


def paths_in(folder: Path, members: tuple[str, ...]) -> list[Path]:
    """Where `members` lie in a folder; raises InputError as `check_held` does."""
    return [member.source for member in _in_folder(folder, members).values()]


@dataclass(frozen=True)
class _Member:
    """A file to be read: out of an archive, or as it lies in a folder."""

    source: Path
    name: str
    size_bytes: int
    packed_bytes: int
    info: zipfile.ZipInfo | None = None
    archive: zipfile.ZipFile | None = None

    def open(self) -> IO[bytes]:
        if self.archive is not None and self.info is not None:
            return self.archive.open(self.info)
        return self.source.open("rb")


@contextmanager
def _members(source: Path, members: tuple[str, ...], limits: UnpackLimits) -> Iterator[dict[str, _Member]]:
    if source.is_dir():
        yield _in_folder(source, members)
        return
    with _opened(source, limits) as archive:
        _refuse_overlap(source, archive)
        found = {}
        for name in members:
            info = _the_one(source, name, archive.infolist(), members)
            found[name] = _Member(source, name, info.file_size, info.compress_size, info, archive)
        yield found


def _in_folder(folder: Path, members: tuple[str, ...]) -> dict[str, _Member]:
    files = _files(folder)
    found = {}
    for name in members:
        paths = [path for path in files if path.name == name]
        # What lies in the folder itself goes before what lies deeper.
        paths = [path for path in paths if path.parent == folder] or paths
        if len(paths) > 1:
            places = _listed([path.parent.name for path in paths])
            raise InputError(f"{folder} holds {name} in {places}: give one of these")
        if not paths:
            raise _missing(folder, name, members, [path.name for path in files])
        size_bytes = paths[0].stat().st_size
        found[name] = _Member(paths[0], name, size_bytes, size_bytes)
    return found


def _files(folder: Path) -> list[Path]:
    """The files in the folder and the folders in it, no deeper: it could be a whole home."""
    try:
        inner = [path for path in folder.iterdir() if path.is_dir() and path.name != "__MACOSX"]
        places = [folder, *(path for path in inner if os.access(path, os.R_OK | os.X_OK))]
        return sorted(path for place in places for path in place.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions") from None


class _Wary:
    """A file that does not give more at once than a sane table of contents takes."""

    def __init__(self, file: IO[bytes], name: str, most_bytes: int) -> None:
        self._file, self._name, self._most_bytes = file, name, most_bytes
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._most_bytes:
            raise InputError(
                f"{self._name}: its table of contents takes {size} bytes, "
                f"more than directory_bytes={self._most_bytes}: {AGAIN}"
            )
        return self._file.read(size)


@contextmanager
def _opened(source: Path, limits: UnpackLimits) -> Iterator[zipfile.ZipFile]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise InputError(
            f"{source} cannot be read ({error.strerror}): check the path and its permissions"
        ) from None
    with file:
        head = file.read(512)
        try:
            archive = zipfile.ZipFile(_Wary(file, source.name, limits.directory_bytes))
        except DAMAGE as error:
            raise _no_zip(source, head, error) from None
        with archive:
            entries = len(archive.infolist())
            if entries > limits.entries:
                most = f"more than entries={limits.entries}"
                raise InputError(f"{source.name} has {entries} entries, {most}: {AGAIN}")
            yield archive


def _no_zip(source: Path, head: bytes, error: Exception) -> InputError:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<html", b"<!doctype", b"<head", b"<?xml")):
        return InputError(
            f"{source.name}: got HTML, not a zip: open its address in a browser to see what it says"
        )
    if head.startswith(b"PK\x03\x04"):
        return InputError(f"{source.name} is a damaged or cut zip ({error}): {AGAIN}")
    return InputError(f"{source.name} is not a zip: give a zip, or a folder with the unpacked files")


def _refuse_overlap(source: Path, archive: zipfile.ZipFile) -> None:
    """Entries that share bytes let a small zip unpack to any size (CVE-2024-0450)."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos), archive.start_dir][1:]
    for info, end in zip(infos, ends, strict=True):
        # 30: a local header without its name
        if info.header_offset < 0 or info.header_offset + 30 + info.compress_size > end:
            raise InputError(f"{source.name} has entries that overlap, as a zip bomb has: {AGAIN}")


def _the_one(
    source: Path, name: str, infos: list[zipfile.ZipInfo], members: tuple[str, ...]
) -> zipfile.ZipInfo:
    named = [info for info in infos if not info.is_dir() and _is_content(info) and _parts(info)[-1] == name]
    found = [info for info in named if _is_plain(info)]
    if len(found) > 1:
        places = _listed([info.filename for info in found])
        raise InputError(
            f"{source.name} holds {name} {len(found)} times ({places}): unpack it and give the right folder"
        )
    if not found and named:
        raise InputError(
            f"{source.name} holds {name} only as a link or under a path that leads outside: {AGAIN}"
        )
    if not found:
        held = [_parts(info)[-1] for info in infos if not info.is_dir() and _is_content(info)]
        raise _missing(source, name, members, held)
    if found[0].flag_bits & 0x1:
        raise InputError(f"{source.name}: {name} is encrypted: unpack it and give the folder")
    if found[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The standard library's bzip2 and LZMA readers may make 80 MB of one small read.
        raise InputError(f"{source.name}: {name} is not packed with deflate: unpack it and give the folder")
    return found[0]


def _parts(info: zipfile.ZipInfo) -> list[str]:
    return info.orig_filename.replace("\\", "/").split("/")


def _is_content(info: zipfile.ZipInfo) -> bool:
    return "__MACOSX" not in _parts(info)


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """Whether a tool that follows the paths of an archive would put it inside its folder."""
    parts = _parts(info)
    outside = parts[0] == "" or ".." in parts or parts[0][1:2] == ":" or "\0" in info.orig_filename
    return not outside and not S_ISLNK(info.external_attr >> 16)


def _missing(source: Path, name: str, members: tuple[str, ...], held: list[str]) -> InputError:
    visible = [other for other in held if not other.startswith(".")]
    return InputError(
        f"{source.name} holds {f'{_listed(visible)}, but no {name}' if visible else 'no files'}: "
        f"give a zip or folder with {' and '.join(members)}"
    )


def _listed(names: list[str]) -> str:
    """At most three, made safe to print; nothing in them is ours."""
    shown = [ascii(name[:60])[1:-1] for name in sorted(set(names))]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more


def _write(member: _Member, path: Path, limits: UnpackLimits, *, pin: str | None) -> str:
    """Copy it, counted and checked, to `path`; returns its SHA-256. A bad one leaves nothing."""
    sha256, blob = (
        hashlib.sha256(),
        hashlib.sha1(b"blob %d\0" % member.size_bytes, usedforsecurity=False),
    )
    partial = path.with_name(f".{path.name}.partial")
    done = 0
    _check_size(member, member.size_bytes, limits)
    try:
        with partial.open("wb") as file:
            for chunk in _chunks(member):
                done += len(chunk)
                _check_size(member, done, limits)
                sha256.update(chunk)
                blob.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if done != member.size_bytes:
            raise InputError(f"{_where(member)} holds {done} bytes, not {member.size_bytes}: {AGAIN}")
        if pin and blob.hexdigest() != pin:
            raise InputError(
                f"{_where(member)} is not the official file "
                f"(git blob id {blob.hexdigest()}, expected {pin}): {AGAIN}"
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return sha256.hexdigest()


def _chunks(member: _Member) -> Iterator[bytes]:
    try:
        # Reading to the end is what makes the standard library compare the CRC.
        with member.open() as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except DAMAGE as error:
        raise InputError(
            f"{_where(member)} is damaged ({' '.join(str(error).split())[:160]}): {AGAIN}"
        ) from None
    except OSError as error:
        raise InputError(f"{_where(member)} cannot be read ({error.strerror or error}): check it") from None


def _check_size(member: _Member, size_bytes: int, limits: UnpackLimits) -> None:
    if size_bytes > limits.member_bytes:
        raise _bomb(member.source.name, member.name, f"member_bytes={limits.member_bytes}")
    if size_bytes > limits.ratio_from_bytes and size_bytes > limits.ratio * member.packed_bytes:
        raise _bomb(member.source.name, member.name, f"ratio={limits.ratio}")


def _bomb(source: str, name: str, limit: str) -> InputError:
    return InputError(f"{source}: {name} unpacks to more than {limit} allows, as a zip bomb does: {AGAIN}")


def _where(member: _Member) -> str:
    return f"{member.source.name}: {member.name}" if member.archive else str(member.source)
