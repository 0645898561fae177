"""Listing: asks the hub which commit of a data set is the newest, and which files are in it."""

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from corpus.hub.address import COMMIT, DataSet
from corpus.transfer.attempt import WEB_PAGE
from corpus.transfer.guard import PermanentError, Reach, TransientError
from corpus.transfer.http import describe, download_with_retries
from corpus.transfer.limits import Limits
from corpus.transfer.login import HUB_ENDPOINT, HUB_TOKEN, hub_token, hub_url
from models.errors import InputError
from models.record import Record

LIMITS = Limits(total_s=300, max_bytes=64 * 2**20)  # 64 MiB are the names of 300,000 files
OFFLINE = "HF_HUB_OFFLINE"
OFFLINE_BY_REPARTEE = "HF_HUB_OFFLINE_BY_REPARTEE"  # environment.py sets both for the libraries
MANUAL_REMEDY = "download the data set manually and run with --corpus PATH"


class HubFile(Record):
    """A file of a commit."""

    path: str
    size_bytes: int | None = None
    digest: str = ""
    """The SHA-256 of a file in LFS, the git blob id of another one; "" if the server does not say."""


class Listing(Record):
    """A commit of a data set."""

    commit: str
    files: tuple[HubFile, ...]
    configurations: list[dict[str, Any]] = []
    """What the data set's card says about its configurations (the key `configs` of its README.md)."""


def request_listing(
    data_set: DataSet, *, reach: Reach, commit: str = "", tries: int = LIMITS.tries
) -> Listing:
    """Ask the hub for the files of a data set at a commit, or else at its own revision.

    Raises:
        TransientError: the hub cannot be reached at the moment.
        InputError: there is no such data set or revision, the user may not read it, or the user has set
            HF_HUB_OFFLINE.
    """
    try:
        # `blobs` adds the sizes and digests: https://huggingface.co/docs/hub/api
        revision = commit or data_set.revision
        path = f"{data_set.name}/revision/{quote(revision, safe='')}" if revision else data_set.name
        url = f"{hub_url()}/api/datasets/{path}?blobs=true"
        with TemporaryDirectory(prefix="repartee-") as folder:
            part, limits = Path(folder) / "listing", replace(LIMITS, tries=tries)
            deadline_s = time.monotonic() + limits.total_s
            download_with_retries(url, part, limits, reach, deadline_s=deadline_s, progress=lambda *_: None)
            return _read_listing(json.loads(part.read_bytes()))
    except PermanentError as refusal:
        raise refusal_error(data_set, refusal) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _endpoint_error(data_set, "is not a list of files") from None


def check_allowed(data_set: DataSet) -> None:
    """
    Raises:
        InputError: the user has set HF_HUB_OFFLINE.
    """
    if is_forbidden():
        raise InputError(
            f"corpus {data_set}: the variable {OFFLINE} is set: unset it to download the data set, or "
            f"{MANUAL_REMEDY}"
        )


def is_forbidden() -> bool:
    """Whether the user, rather than environment.py, has forbidden all access to the hub."""
    is_set = os.environ.get(OFFLINE, "").strip().upper() in ("1", "ON", "YES", "TRUE")
    return is_set and OFFLINE_BY_REPARTEE not in os.environ


def outage_error(data_set: DataSet, url: str, failure: TransientError) -> InputError:
    """The error for a hub that cannot be reached, if there is no copy of the data set."""
    return InputError(f"corpus {data_set}: {describe({url: failure})}; {MANUAL_REMEDY}")


def refusal_error(data_set: DataSet, refusal: PermanentError) -> InputError:
    """The error for a request that the hub has refused, with what the user can do."""
    name, revision = data_set.name, data_set.revision
    page = f"{_endpoint()}/datasets/{name}"
    if refusal.code == WEB_PAGE:
        return _endpoint_error(data_set, "is a web page")
    if refusal.code == "GatedRepo":
        reason = (
            f"accept its terms at {page}, and set the variable {HUB_TOKEN} to a token of the account that "
            "has accepted them"
        )
    elif refusal.code == "RevisionNotFound":
        reason = (
            f"the data set has no commit, branch or tag {revision or 'main'}: check the 40 digits of the "
            f"commit at {page}/commits/main"
        )
    elif refusal.status in (401, 403, 404):
        reason = _access_reason(refusal)
    elif refusal.status:
        reason = f"{_endpoint()} has answered {refusal}: check the variable {HUB_ENDPOINT}"
    else:
        reason = f"{_endpoint()}: {refusal}"
    return InputError(f"corpus {data_set}: {reason}")


def _access_reason(refusal: PermanentError) -> str:
    # The hub answers 401 for what is private as well as for what does not exist.
    if not hub_token():
        return (
            "the hub has no public data set of this name: check the name, or set the variable "
            f"{HUB_TOKEN} to a token that may read it if it is private"
        )
    if refusal.status == 401 and not refusal.code:
        return f"the hub does not accept the token in {HUB_TOKEN}: set the variable to a valid one"
    return (
        f"the hub has no data set of this name that the token in {HUB_TOKEN} may read ({refusal}): check the "
        "name and the permissions of the token"
    )


def _endpoint_error(data_set: DataSet, what: str) -> InputError:
    return InputError(
        f"corpus {data_set}: the answer of {_endpoint()} {what}: check the variable {HUB_ENDPOINT}"
    )


def _endpoint() -> str:
    url = hub_url()
    return f"{url.scheme}://{url.netloc.decode()}"


def _read_listing(answer: dict[str, Any]) -> Listing:
    commit = str(answer["sha"])
    if not COMMIT.fullmatch(commit):
        raise ValueError(commit)
    card = answer.get("cardData")
    files = tuple(map(_read_file, answer["siblings"]))
    entries = card.get("configs") if isinstance(card, dict) else None
    entries = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
    return Listing(commit=commit, files=files, configurations=entries)


def _read_file(facts: dict[str, Any]) -> HubFile:
    large = facts.get("lfs") or {}
    digest, size = str(large.get("sha256") or facts.get("blobId") or ""), facts.get("size")
    return HubFile(
        path=str(facts["rfilename"]),
        size_bytes=size if isinstance(size, int) else None,
        digest=digest if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest) else "",
    )
