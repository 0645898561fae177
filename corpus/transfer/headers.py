"""Response: what the status line and the headers of an answer say about the file that follows."""

import email.utils
import re
import time
from typing import Any

import httpx2

from corpus.transfer.guard import Again, Refused

CONTENT_HEADERS = ("etag", "last-modified", "content-length")


def continues(response: httpx2.Response, offset: int, known: dict[str, Any]) -> bool:
    """Whether a 206 is the rest of the very file that we hold the beginning of."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    if not found or int(found[1]) != offset:
        return False
    same_total = found[2] == "*" or not known.get("total") or int(found[2]) == known["total"]
    return same_total and validator(response) in (None, known["validator"])


def status_failure(response: httpx2.Response) -> Again | Refused:
    """What a status other than a success means for the next try."""
    reason = f"HTTP {response.status_code} {response.reason_phrase[:60]}".strip()
    if response.status_code in (408, 429, 500, 502, 503, 504):
        return Again(reason, wait_s=_retry_after_s(response.headers.get("retry-after", "")))
    return Refused(reason)


def _retry_after_s(text: str) -> float:
    """Seconds, given as such or as a date; 0 for anything else."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def length(response: httpx2.Response) -> int | None:
    """Bytes to come, where the server says so."""
    text = response.headers.get("content-length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def validator(response: httpx2.Response) -> str | None:
    """What If-Range takes: a strong ETag, or else a date."""
    etag: str = response.headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("last-modified")


def headers_of_content(response: httpx2.Response) -> dict[str, str]:
    """What tells one content of an address from another; nothing where there is no validator, which a
    length alone is not."""
    found = {name: response.headers[name] for name in CONTENT_HEADERS if name in response.headers}
    return found if found.keys() - {"content-length"} else {}
