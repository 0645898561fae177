"""Headers: reads what the status line and the headers of a response say about the file that follows."""

import email.utils
import re
import time
from typing import Any

import httpx2

from corpus.transfer.guard import PermanentError, TransientError

IDENTIFYING_HEADERS = ("etag", "last-modified", "content-length")


def is_continuation(response: httpx2.Response, offset: int, state: dict[str, Any]) -> bool:
    """Whether a response with status 206 is the rest of the file whose beginning is on disk.

    `state` is the description of the part on disk, from `copies.read_state`.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    if not found or int(found[1]) != offset:
        return False
    same_total = found[2] == "*" or not state.get("total") or int(found[2]) == state["total"]
    return same_total and validator(response) in (None, state["validator"])


def status_error(response: httpx2.Response) -> TransientError | PermanentError:
    """The error for an unsuccessful status. The error says whether, and when, another attempt may succeed."""
    reason = f"HTTP {response.status_code} {response.reason_phrase[:60]}".strip()
    if response.status_code in (408, 429, 500, 502, 503, 504):
        return TransientError(reason, wait_s=_retry_after_s(response.headers.get("retry-after", "")))
    # The hub's cause: RepoNotFound, RevisionNotFound, GatedRepo, ...
    code = response.headers.get("x-error-code", "")[:60]
    return PermanentError(reason, status=response.status_code, code=code)


def _retry_after_s(text: str) -> float:
    """The wait in seconds that a Retry-After header asks for; 0 if the header is missing or invalid."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def content_length(response: httpx2.Response) -> int | None:
    """The number of bytes in the body; None if the headers do not give it."""
    text = response.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def validator(response: httpx2.Response) -> str | None:
    """The value for If-Range: a strong ETag, or otherwise Last-Modified (section 13.1.5 of RFC 9110)."""
    etag: str = response.headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("last-modified")


def identifying_headers(response: httpx2.Response) -> dict[str, str]:
    """The headers that identify the content; {} if there is neither an ETag nor a Last-Modified header."""
    found = {name: response.headers[name] for name in IDENTIFYING_HEADERS if name in response.headers}
    return found if found.keys() - {"content-length"} else {}
