"""Copy: the files of a commit on this machine, each checked against the digest that the hub gives.

    DIGEST-NAME        a complete file; DIGEST-NAME.json and .part as in corpus/transfer/copies.py
    commit.json        written last: the listing of the commit whose files are all in the folder

A new commit replaces the files that it has changed, and leaves the others. Until all of its files have
arrived, those of the commit before stay.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from corpus.hub.address import DataSet
from corpus.hub.listing import (
    LIMITS,
    HubFile,
    Listing,
    check_allowed,
    is_forbidden,
    outage_error,
    refusal_error,
    request_listing,
)
from corpus.hub.selection import example_of, log_left_out, select_files
from corpus.transfer import copies
from corpus.transfer.guard import PermanentError, Reach, TransientError
from corpus.transfer.http import download_with_retries
from corpus.transfer.limits import Limits, Progress
from corpus.transfer.login import hub_url
from corpus.transfer.members import list_names
from corpus.transfer.unpacking import git_blob
from models.errors import InputError
from models.files import sha256

log = logging.getLogger(__name__)

IDENTITY = "hub:"
COMMIT_FILE = "commit.json"
MAX_BYTES = Limits().max_bytes
"""The largest size of all files of a data set together."""


def identity(data_set: DataSet, folder: Path, *, reach: Reach) -> str:
    """An identifier of the content: the data set at its commit. Without a commit, the hub is asked for it.

    If the hub does not answer, or if its newest commit has changed no file that is read, the identifier of
    the copy in `folder` is returned.

    Raises:
        InputError: there is no such data set, or the hub cannot be reached and there is no copy.
    """
    if data_set.is_pinned:
        return _identity(data_set)
    stored = _read_copy(data_set, folder)
    if is_forbidden() and stored:
        log.info("%s: the hub is not asked, because HF_HUB_OFFLINE is set", data_set)
        return _identity(data_set.at(stored.commit))
    check_allowed(data_set)
    try:
        tries = 1 if stored else LIMITS.tries
        listing = request_listing(data_set, reach=reach, tries=tries)
    except TransientError as failure:
        if stored:
            log.warning("%s: %s; the copy downloaded earlier is used", data_set, failure)
            return _identity(data_set.at(stored.commit))
        raise outage_error(data_set, str(hub_url()), failure) from None
    is_same = stored and _contents(data_set, stored) == _contents(data_set, listing)
    return _identity(data_set.at(stored.commit if stored and is_same else listing.commit))


def _contents(data_set: DataSet, listing: Listing) -> list[tuple[str, str]]:
    """What identifies the files that are read: two commits may differ only in a README."""
    files = select_files(data_set, listing)
    return [(file.path, file.digest or listing.commit) for file in files]


@contextmanager
def open_copy(
    data_set: DataSet, folder: Path, *, identity: str, reach: Reach, progress: Progress
) -> Iterator[dict[str, Path]]:
    """The files of a data set by their paths in it, after those that are missing have been downloaded.

    `identity` is what the function of this name has returned: it contains the commit. No other process
    changes the files inside the context.

    Raises:
        InputError: a file cannot be downloaded, or it is not the one that the hub lists.
    """
    commit = identity.rpartition("@")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with copies.write_lock(folder, wait_s=Limits().total_s):
        stored = _read_copy(data_set, folder)
        if not stored or stored.commit != commit:
            stored = _request_commit(data_set, commit, reach)
        files = select_files(data_set, stored)
        _check_size(data_set, files)
        log_left_out(data_set, stored, files)
        paths = _complete(data_set, stored.commit, files, folder, reach, progress)
        copies.keep_only(folder, COMMIT_FILE, stored, {path.name for path in paths.values()})
        yield paths


def _identity(data_set: DataSet) -> str:
    return f"{IDENTITY}{str(data_set).removeprefix('hf:')}"


def _request_commit(data_set: DataSet, commit: str, reach: Reach) -> Listing:
    check_allowed(data_set)
    try:
        return request_listing(data_set, commit=commit, reach=reach)
    except TransientError as failure:
        raise outage_error(data_set, str(hub_url()), failure) from None


def _check_size(data_set: DataSet, files: list[HubFile]) -> None:
    size_bytes = sum(file.size_bytes or 0 for file in files)
    if size_bytes > MAX_BYTES:
        raise InputError(
            f"corpus {data_set}: its {len(files)} files have {size_bytes / 1e9:.1f} GB, more than "
            f"{MAX_BYTES / 1e9:.1f} GB: give a folder or a file of it"
            f"{example_of(data_set, [file.path for file in files])}"
        )


def _complete(
    data_set: DataSet, commit: str, files: list[HubFile], folder: Path, reach: Reach, progress: Progress
) -> dict[str, Path]:
    """Download the files that are missing or damaged; return the paths of all files."""
    total_bytes = sum(file.size_bytes or 0 for file in files)
    done_bytes = 0
    paths = {file.path: folder / _file_name(commit, file) for file in files}
    for file in files:
        path = paths[file.path]
        if not (path.is_file() and _is_right(path, file)):
            check_allowed(data_set)
            _download(
                data_set,
                commit,
                file,
                path,
                limits=Limits(max_bytes=MAX_BYTES - done_bytes),
                reach=reach,
                progress=_shifted(progress, done_bytes, total_bytes),
            )
        done_bytes += path.stat().st_size
    return paths


def _download(
    data_set: DataSet,
    commit: str,
    file: HubFile,
    path: Path,
    *,
    limits: Limits,
    reach: Reach,
    progress: Progress,
) -> None:
    url = f"{hub_url()}/datasets/{data_set.name}/resolve/{commit}/{quote(file.path)}"
    part = copies.part_path(path)
    deadline_s = time.monotonic() + limits.total_s
    try:
        download_with_retries(url, part, limits, reach, deadline_s=deadline_s, progress=progress)
    except PermanentError as refusal:
        raise refusal_error(data_set, refusal) from None
    except TransientError as failure:
        raise outage_error(data_set, url, failure) from None
    if not _is_right(part, file):
        copies.delete(part)
        raise InputError(
            f"corpus {data_set}: {list_names([file.path])} does not have the digest that the hub gives: run "
            "the same command again, or check the variable HF_ENDPOINT if it names a mirror"
        )
    copies.publish(path)


def _read_copy(data_set: DataSet, folder: Path) -> Listing | None:
    """The listing of the copy in `folder`; None if there is none, or if a file of it is missing."""
    try:
        listing = Listing.read(folder / COMMIT_FILE)
        files = select_files(data_set, listing)
    except (OSError, ValueError, InputError):
        return None
    return listing if all((folder / _file_name(listing.commit, file)).is_file() for file in files) else None


def _file_name(commit: str, file: HubFile) -> str:
    """The name of a file's copy: it contains what identifies the content, and then the file's own name."""
    key = file.digest or hashlib.sha256(f"{commit}/{file.path}".encode()).hexdigest()
    return copies.name_by_key(key, file.path)


def _is_right(path: Path, file: HubFile) -> bool:
    """Whether the bytes have the digest of the listing. A server that lists no digests is trusted."""
    if len(file.digest) == 64:
        return sha256(path) == file.digest
    return not file.digest or _git_blob_id(path) == file.digest


def _git_blob_id(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: git_blob(path.stat().st_size)).hexdigest()


def _shifted(progress: Progress, before_bytes: int, total_bytes: int) -> Callable[[int, int | None], None]:
    """The progress of all files together, while one of them arrives."""
    return lambda done_bytes, _: progress(before_bytes + done_bytes, total_bytes or None)
