"""Unpacking: writes files of a zip or a folder to another folder.

An archive is not trusted: its paths are never used for writing, and the unpacked bytes are counted, whatever
sizes the archive declares.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from corpus.transfer.archive import DAMAGE_ERRORS, DOWNLOAD_AGAIN, open_members
from corpus.transfer.limits import UnpackLimits
from corpus.transfer.members import Member
from models.errors import InputError

CHUNK_BYTES = 2**18


def unpack(
    source: Path,
    members: tuple[str, ...],
    out: Path,
    *,
    pins: Mapping[str, str],
    limits: UnpackLimits | None = None,
) -> dict[str, str]:
    """Write each of `members` to out/NAME and flush it to disk; return the SHA-256 digests by name.

    `pins` gives the git blob ids of those members whose content is known. A blob id also determines the size.

    Raises:
        InputError: the source is not an archive, is damaged or dangerous, or does not match the pins.
    """
    with open_members(source, members, limits or UnpackLimits()) as found:
        return write_members(found, out, pins=pins, limits=limits)


def write_members(
    members: Mapping[str, Member], out: Path, *, pins: Mapping[str, str], limits: UnpackLimits | None = None
) -> dict[str, str]:
    """Write each of `members` to out/NAME, as `unpack` does; return the SHA-256 digests by name.

    Raises:
        InputError: a member is damaged or dangerous, or does not match its pin.
    """
    limits = limits or UnpackLimits()
    digests: dict[str, str] = {}
    total_bytes = 0
    for name, member in members.items():
        if total_bytes + member.size_bytes > limits.total_bytes:
            raise _bomb_error(member.source.name, name, f"total_bytes={limits.total_bytes}")
        digests[name] = _write(member, out / name, limits, pin=pins.get(name))
        total_bytes += member.size_bytes
    return digests


def git_blob(size_bytes: int) -> "hashlib._Hash":
    """The beginning of the hash whose digest is the git blob id of a file of this size."""
    return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


def _write(member: Member, path: Path, limits: UnpackLimits, *, pin: str | None) -> str:
    """Copy the member to `path`, check it and return its SHA-256. After an error, no file is left behind."""
    sha256, blob = hashlib.sha256(), git_blob(member.size_bytes)
    partial = path.with_name(f".{path.name}.partial")
    done_bytes = 0
    _check_size(member, member.size_bytes, limits)
    try:
        with partial.open("wb") as file:
            for chunk in _chunks(member):
                done_bytes += len(chunk)
                _check_size(member, done_bytes, limits)
                sha256.update(chunk)
                blob.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if done_bytes != member.size_bytes:
            remedy = DOWNLOAD_AGAIN if member.archive else "if it is still being written, try again later"
            raise InputError(f"{member} holds {done_bytes} bytes, not {member.size_bytes}: {remedy}")
        if pin and blob.hexdigest() != pin:
            raise InputError(
                f"{member} is not the official file "
                f"(git blob id {blob.hexdigest()}, expected {pin}): {DOWNLOAD_AGAIN}"
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return sha256.hexdigest()


def _chunks(member: Member) -> Iterator[bytes]:
    try:
        # Each member is read to its end, because only there does zipfile check the CRC.
        with member.open() as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except DAMAGE_ERRORS as error:
        raise InputError(
            f"{member} is damaged ({' '.join(str(error).split())[:160]}): {DOWNLOAD_AGAIN}"
        ) from None
    except OSError as error:
        raise InputError(f"{member} cannot be read ({error.strerror or error}): check the disk") from None


def _check_size(member: Member, size_bytes: int, limits: UnpackLimits) -> None:
    if size_bytes > limits.member_bytes:
        raise _bomb_error(member.source.name, member.name, f"member_bytes={limits.member_bytes}")
    if size_bytes > limits.ratio_from_bytes and size_bytes > limits.ratio * member.packed_bytes:
        raise _bomb_error(member.source.name, member.name, f"ratio={limits.ratio}")


def _bomb_error(source: str, name: str, limit: str) -> InputError:
    return InputError(
        f"{source}: {name} unpacks to more than {limit} allows, like a zip bomb: {DOWNLOAD_AGAIN}"
    )
