"""Copy: the objects of a bucket on this machine.

    KEY-NAME           a complete object; KEY depends on its name, its size and the time of its last change
    listing.json       written last: the objects that are all in the folder

Objects that have changed replace the earlier ones. Until all of them have arrived, the earlier ones stay.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.contents import MAX_FILES, OTHER_SUFFIXES
from corpus.object_store.address import Objects
from corpus.object_store.file_system import errors_translated, missing_error, open_file_system
from corpus.transfer import copies
from corpus.transfer.guard import TransientError
from corpus.transfer.limits import Limits, Meter, Progress
from corpus.transfer.members import list_names
from models.errors import InputError
from models.record import Record

if TYPE_CHECKING:
    from pyarrow import fs

log = logging.getLogger(__name__)

LISTING = "listing.json"
MAX_BYTES = Limits().max_bytes
"""The largest size of all objects together."""
CHUNK_BYTES = 2**20


class StoredObject(Record):
    """An object, and the name of the file that it becomes."""

    location: str
    """BUCKET/PATH."""
    name: str
    """Its path below that of the address; the last part of the path if the address is that of this object."""
    size_bytes: int
    changed_ns: int
    """The time of the last change, in nanoseconds since 1970."""

    @property
    def file_name(self) -> str:
        """The name of the object's copy."""
        key = hashlib.sha256(json.dumps(self.model_dump()).encode()).hexdigest()
        return copies.name_by_key(key, self.name)


class Listing(Record):
    """The objects at an address."""

    objects: tuple[StoredObject, ...]

    @property
    def identity(self) -> str:
        """A hash of the names, sizes and times of the objects."""
        return f"objects:{hashlib.sha256(json.dumps(self.model_dump()).encode()).hexdigest()}"


def identity(objects: Objects, folder: Path) -> str:
    """An identifier of the objects at an address. If the store does not answer, that of the copy in `folder`.

    Raises:
        InputError: there are no objects, the store refuses the request, or it cannot be reached and there is
            no copy.
    """
    try:
        return _list(open_file_system(objects), objects).identity
    except TransientError as failure:
        stored = _read_copy(folder)
        if stored is None:
            raise _outage_error(objects, failure) from None
        log.warning("%s: %s; the copy downloaded earlier is used", objects, failure)
        return stored.identity


@contextmanager
def open_copy(
    objects: Objects, folder: Path, *, identity: str, progress: Progress
) -> Iterator[dict[str, Path]]:
    """The objects by their names, after those that are missing have been downloaded.

    No other process changes the files inside the context.

    Raises:
        InputError: an object cannot be downloaded, or the objects have changed since they were identified.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with copies.write_lock(folder, wait_s=Limits().total_s):
        listing = _read_copy(folder)
        if listing is None or listing.identity != identity:
            try:
                listing = _download(objects, folder, identity, progress)
            except TransientError as failure:
                raise _outage_error(objects, failure) from None
        yield {each.name: folder / each.file_name for each in listing.objects}


def _download(objects: Objects, folder: Path, identity: str, progress: Progress) -> Listing:
    file_system = open_file_system(objects)
    listing = _list(file_system, objects)
    if listing.identity != identity:
        raise InputError(f"corpus {objects} changed while it was read: run the same command again")
    meter = Meter(0, sum(each.size_bytes for each in listing.objects), Limits(), progress)
    done_bytes = 0
    for each in listing.objects:
        path = folder / each.file_name
        if not path.is_file():
            with errors_translated(objects):
                _fetch(file_system, each, path, partial(_advance, meter, done_bytes))
        done_bytes += each.size_bytes
    copies.keep_only(folder, LISTING, listing, {each.file_name for each in listing.objects})
    return listing


def _advance(meter: Meter, before_bytes: int, done_bytes: int) -> None:
    meter.update(before_bytes + done_bytes)


def _list(file_system: "fs.FileSystem", objects: Objects) -> Listing:
    """The objects at the address that may hold data, in the order of their names."""
    from pyarrow import fs

    with errors_translated(objects):
        (found,) = file_system.get_file_info([objects.location])
        if found.type == fs.FileType.File:
            return Listing(objects=(_stored(found, found.base_name),))
        selector = fs.FileSelector(objects.location, recursive=True, allow_not_found=True)
        infos = [each for each in file_system.get_file_info(selector) if each.type == fs.FileType.File]
    names = {info.path: info.path.removeprefix(f"{objects.location}/") for info in infos}
    stored = [_stored(info, names[info.path]) for info in infos if _may_hold_data(names[info.path])]
    if not stored:
        if infos:
            there_is = list_names(list(names.values()))
            raise InputError(f"corpus {objects} holds no file with data, but {there_is}: check the address")
        raise missing_error(objects)
    _check_size(objects, stored)
    return Listing(objects=tuple(sorted(stored, key=lambda each: each.name)))


def _stored(info: "fs.FileInfo", name: str) -> StoredObject:
    return StoredObject(location=info.path, name=name, size_bytes=info.size, changed_ns=info.mtime_ns or 0)


def _may_hold_data(path: str) -> bool:
    """Whether to download an object. Names with a leading dot or underscore are those of tools' own files."""
    parts = path.split("/")
    return not any(part.startswith((".", "_")) for part in parts) and not parts[-1].lower().endswith(
        OTHER_SUFFIXES
    )


def _check_size(objects: Objects, stored: list[StoredObject]) -> None:
    size_bytes = sum(each.size_bytes for each in stored)
    if size_bytes > MAX_BYTES or len(stored) > MAX_FILES:
        raise InputError(
            f"corpus {objects}: its {len(stored)} objects have {size_bytes / 1e9:.1f} GB, but at most "
            f"{MAX_FILES} objects with {MAX_BYTES / 1e9:.1f} GB are read: give a folder of it"
        )


def _fetch(
    file_system: "fs.FileSystem", stored: StoredObject, path: Path, progress: Callable[[int], None]
) -> None:
    """Write an object to `path`, which exists only when the object is complete."""
    part, done_bytes = copies.part_path(path), 0
    with file_system.open_input_stream(stored.location, compression=None) as stream, part.open("wb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            file.write(chunk)
            done_bytes += len(chunk)
            progress(done_bytes)
        file.flush()
        os.fsync(file.fileno())
    if done_bytes != stored.size_bytes:
        raise TransientError(f"{stored.location} has {done_bytes} instead of {stored.size_bytes} bytes")
    part.replace(path)


def _read_copy(folder: Path) -> Listing | None:
    """The listing of the copy in `folder`; None if there is none, or if a file of it is missing."""
    try:
        listing = Listing.read(folder / LISTING)
    except (OSError, ValueError):
        return None
    return listing if all((folder / each.file_name).is_file() for each in listing.objects) else None


def _outage_error(objects: Objects, failure: TransientError) -> InputError:
    return InputError(
        f"corpus {objects}: the object store cannot be reached ({failure}): try again later, or download the "
        "objects and give their folder"
    )
