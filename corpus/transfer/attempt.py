"""Attempt: downloads a file with one HTTP request, starting where an earlier attempt stopped."""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from corpus.transfer import copies
from corpus.transfer.guard import (
    PermanentError,
    Reach,
    RequestGuard,
    TransientError,
    silence_request_log,
)
from corpus.transfer.headers import content_length, is_continuation, status_error
from corpus.transfer.limits import Limits, Meter, Progress
from corpus.transfer.login import login_for

HTML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)

WEB_PAGE = "WebPage"  # the code of the error for an answer that is a web page

# With compression, Range and Content-Length would count compressed bytes instead of the file's own bytes.
UNCOMPRESSED = {"Accept-Encoding": "identity"}


def download_once(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    """Download the missing rest of the file `part`. If the connection breaks, the bytes received are kept.

    Raises:
        TransientError: another attempt may succeed.
        PermanentError: no attempt can succeed.
    """
    if time.monotonic() > deadline_s:
        raise TransientError(f"not finished within {limits.total_s:g} s")
    state = copies.read_state(part, url)
    offset = part.stat().st_size if state.get("validator") and part.exists() else 0
    headers = dict(UNCOMPRESSED)
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": state["validator"]}
    with (
        RequestGuard(reach) as guard,
        open_response("GET", url, headers, guard, limits, deadline_s) as response,
    ):
        guard.set_deadline(deadline_s - time.monotonic())
        if response.status_code == 206 and offset and is_continuation(response, offset, state):
            total = int(state["total"]) if state.get("total") else None
        elif response.status_code in (206, 416) and offset:
            copies.delete(part)
            raise TransientError(
                f"the HTTP {response.status_code} response does not continue the {offset} bytes on disk; "
                "the download starts again"
            )
        elif response.status_code == 200:
            offset, total = 0, content_length(response)
        else:
            raise status_error(response)
        _check_headers(response, total, limits)
        _write_body(response, part, url, offset=offset, total=total, limits=limits, progress=progress)


@contextlib.contextmanager
def open_response(
    method: str, url: str, headers: dict[str, str], guard: RequestGuard, limits: Limits, deadline_s: float
) -> Iterator[httpx2.Response]:
    """The response after all redirects. Each redirect is checked before it is followed.

    Raises:
        TransientError: another attempt may succeed.
        PermanentError: no attempt can succeed.
    """
    timeout = httpx2.Timeout(limits.slow_after_s, connect=limits.connect_s)
    guard.set_deadline(min(limits.slow_after_s + limits.connect_s, deadline_s - time.monotonic()))
    try:
        silence_request_log()
        with httpx2.Client(timeout=timeout) as client:
            location = httpx2.URL(url)
            for _ in range(limits.max_redirects + 1):
                guard.check_url(location)
                request = client.build_request(
                    method, location, headers=headers, extensions={"trace": guard.trace}
                )
                response = client.send(request, stream=True, auth=login_for(location))
                if not response.has_redirect_location:
                    break
                response.close()
                location = location.join(response.headers["location"])
            else:
                raise PermanentError(f"more than {limits.max_redirects} redirects")
            with contextlib.closing(response):
                yield response
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise PermanentError(f"not a valid address: {error}") from None
    except httpx2.TransportError as error:
        raise guard.transient_error(error) from None


def _write_body(
    response: httpx2.Response,
    part: Path,
    url: str,
    *,
    offset: int,
    total: int | None,
    limits: Limits,
    progress: Progress,
) -> None:
    chunks = response.iter_raw()
    head = b""
    while not offset and len(head) < 64 and (chunk := next(chunks, b"")):
        head += chunk
    if is_html(head):
        raise PermanentError(
            "got HTML, not a zip", code=WEB_PAGE
        )  # `part` is not open yet and keeps its bytes
    done, meter = offset, Meter(offset, total, limits, progress)
    with part.open("ab" if offset else "wb") as file:
        if not offset:
            # The state is written while the file is empty, so it describes the bytes in the file at any time.
            copies.write_state(part, url, response, total)
        for chunk in itertools.chain([head], chunks):
            done += len(chunk)
            if done > limits.max_bytes:
                copies.delete(part)
                raise PermanentError(f"more than {limits.max_bytes} bytes; is this the right address?")
            file.write(chunk)
            meter.update(done)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise TransientError(f"got {done} of {total} bytes")
    progress(done, total)


def _check_headers(response: httpx2.Response, total: int | None, limits: Limits) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise PermanentError(f"the server used the encoding {encoding[:40]!r}, which was not requested")
    if total is not None and total > limits.max_bytes:
        raise PermanentError(
            f"{total} bytes, more than the {limits.max_bytes} allowed; is this the right address?"
        )


def is_html(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a web page, such as a sign-in form."""
    return HTML_START.match(head) is not None
