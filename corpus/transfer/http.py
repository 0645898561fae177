"""HTTP: downloads a file over http(s), completely or not at all.

A file that is complete and has passed its check replaces the earlier copy (corpus/transfer/copies.py). An
interrupted download resumes where it stopped, if the file is the same.
"""

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from corpus.transfer import copies
from corpus.transfer.guard import (
    ANYWHERE,
    PermanentError,
    Reach,
    RequestGuard,
    TransientError,
    netrc_login,
    silence_request_log,
)
from corpus.transfer.headers import content_length, identifying_headers, is_continuation, status_error
from corpus.transfer.limits import Limits, Meter, Progress
from models.addresses import redact_corpus
from models.errors import InputError

log = logging.getLogger(__name__)

MANUAL_REMEDY = "download the zip by hand and run with --corpus PATH"
HTML_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)

# With compression, the byte counts of Range and Content-Length would not be those of the file.
UNCOMPRESSED = {"Accept-Encoding": "identity"}


def fetch(
    urls: list[str],
    archive: Path,
    *,
    limits: Limits,
    progress: Progress,
    check: Callable[[Path], object] | None = None,
    reach: Reach = ANYWHERE,
) -> Path:
    """Download a file to `archive` from the first of the mirrors `urls` that has a good one.

    `check` gets the complete file, and raises InputError if it is a wrong one; then the next mirror is tried.
    If no mirror answers, a complete copy from an earlier download is used, with a warning.

    Raises:
        InputError: no mirror has a good file.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with copies.write_lock(archive, wait_s=limits.total_s):
        return _fetch(urls, archive, limits, progress, check, reach)


def _fetch(
    urls: list[str],
    archive: Path,
    limits: Limits,
    progress: Progress,
    check: Callable[[Path], object] | None,
    reach: Reach,
) -> Path:
    deadline_s = time.monotonic() + limits.total_s
    part = copies.part_path(archive)
    errors: dict[str, TransientError | PermanentError | InputError] = {}
    for url in urls:
        try:
            _download_with_retries(url, part, limits, reach, deadline_s=deadline_s, progress=progress)
            if check:
                check(part)
        except (TransientError, PermanentError, InputError) as error:
            if url != urls[-1] and not getattr(error, "unreachable", False):
                log.info("%s: %s; tries the next mirror", redact_corpus(url), error)
            errors[url] = error
            if isinstance(error, InputError):
                copies.delete(part)
        else:
            copies.publish(archive)
            return archive
    if all(isinstance(error, TransientError) for error in errors.values()) and copies.is_complete(
        archive, urls
    ):
        log.warning("%s; the copy downloaded earlier is used (%s)", _describe(errors), archive)
        if check:
            check(archive)
        return archive
    raise InputError(f"{_describe(errors)}; {MANUAL_REMEDY}")


def request_headers(url: str, *, reach: Reach = ANYWHERE, timeout_s: float = 5) -> dict[str, str]:
    """The headers that identify the content of an address, without downloading it; {} if it sends none.

    Raises:
        TransientError: the server does not answer now.
        PermanentError: the server does not have the file, or refuses it.
    """
    limits = Limits(connect_s=timeout_s, slow_after_s=timeout_s)
    last_error: TransientError | PermanentError = PermanentError("")
    for method in ("HEAD", "GET"):  # many servers refuse HEAD; of the answer to GET only the headers are read
        try:
            with (
                RequestGuard(reach) as guard,
                _open_response(
                    method, url, UNCOMPRESSED, guard, limits, time.monotonic() + timeout_s
                ) as response,
            ):
                if response.status_code != 200:
                    last_error = status_error(response)
                elif (found := identifying_headers(response)) or method == "GET":
                    return found
        except (TransientError, PermanentError) as error:
            last_error = error
    raise last_error


def unreachable_error(url: str, error: TransientError) -> InputError:
    """The error for an address that cannot be reached and of which there is no copy."""
    return InputError(f"{_describe({url: error})}; {MANUAL_REMEDY}")


def is_html(head: bytes) -> bool:
    return HTML_START.match(head) is not None


def _download_with_retries(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    backoff = wait_exponential_jitter(
        multiplier=limits.first_wait_s, max=limits.longest_wait_s, jitter=limits.first_wait_s
    )

    def wait_s(state: RetryCallState) -> float:
        return max(backoff(state), _last_error(state).wait_s)

    def should_stop(state: RetryCallState) -> bool:
        tries = min(2, limits.tries) if _last_error(state).unreachable else limits.tries
        return state.attempt_number >= tries or time.monotonic() + state.upcoming_sleep > deadline_s

    def log_retry(state: RetryCallState) -> None:
        if not _last_error(state).unreachable:  # the error that follows says so
            log.info("%s: %s; again in %.1f s", redact_corpus(url), _last_error(state), state.upcoming_sleep)

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_s,
        stop=should_stop,
        before_sleep=log_retry,
        reraise=True,
    )
    retrying(_download_once, url, part, limits, reach, deadline_s=deadline_s, progress=progress)


def _last_error(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TransientError) else TransientError("")


def _download_once(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    """Complete the file `part`; what has arrived of it stays if this fails.

    Raises:
        TransientError: another attempt may succeed.
        PermanentError: no attempt can succeed.
    """
    if time.monotonic() > deadline_s:
        raise TransientError(f"not done within {limits.total_s:g} s")
    state = copies.read_state(part, url)
    offset = part.stat().st_size if state.get("validator") and part.exists() else 0
    headers = dict(UNCOMPRESSED)
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": state["validator"]}
    with (
        RequestGuard(reach) as guard,
        _open_response("GET", url, headers, guard, limits, deadline_s) as response,
    ):
        guard.set_deadline(deadline_s - time.monotonic())
        if response.status_code == 206 and offset and is_continuation(response, offset, state):
            total = int(state["total"]) if state.get("total") else None
        elif response.status_code in (206, 416) and offset:
            copies.delete(part)
            raise TransientError(
                f"HTTP {response.status_code} does not fit the {offset} bytes here; starting anew"
            )
        elif response.status_code == 200:
            offset, total = 0, content_length(response)
        else:
            raise status_error(response)
        _check_headers(response, total, limits)
        _write_body(response, part, url, offset=offset, total=total, limits=limits, progress=progress)


@contextlib.contextmanager
def _open_response(
    method: str, url: str, headers: dict[str, str], guard: RequestGuard, limits: Limits, deadline_s: float
) -> Iterator[httpx2.Response]:
    """The response after the redirects, each of which is checked.

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
                response = client.send(request, stream=True, auth=netrc_login(location))
                if not response.has_redirect_location:
                    break
                response.close()
                location = location.join(response.headers["location"])
            else:
                raise PermanentError(f"more than {limits.max_redirects} redirects")
            with contextlib.closing(response):
                yield response
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise PermanentError(f"a wrong address: {error}") from None
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
        raise PermanentError("got HTML, not a zip")  # and the part that is on the disk stays
    done, meter = offset, Meter(offset, total, limits, progress)
    with part.open("ab" if offset else "wb") as file:
        if not offset:
            # After the old bytes are removed and before the first new one, so that it is always true.
            copies.write_state(part, url, response, total)
        for chunk in itertools.chain([head], chunks):
            done += len(chunk)
            if done > limits.max_bytes:
                copies.delete(part)
                raise PermanentError(f"more than {limits.max_bytes} bytes; is it the right address?")
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
        raise PermanentError(f"sent {encoding[:40]!r}-encoded bytes that were not asked for")
    if total is not None and total > limits.max_bytes:
        raise PermanentError(
            f"{total} bytes, more than the {limits.max_bytes} allowed; is it the right address?"
        )


def _describe(errors: dict[str, TransientError | PermanentError | InputError]) -> str:
    if all(isinstance(error, TransientError) and error.unreachable for error in errors.values()):
        tried = ", ".join(f"{httpx2.URL(url).host} ({error})" for url, error in errors.items())
        return f"offline: could not reach {tried}"
    tried = ", ".join(f"{redact_corpus(url)} ({error})" for url, error in errors.items())
    return f"could not download {tried}"
