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
    login_of,
    silence_request_log,
)
from corpus.transfer.headers import continues, headers_of_content, length, status_failure
from corpus.transfer.limits import Limits, Meter, Progress
from models.addresses import redact_corpus
from models.errors import InputError

log = logging.getLogger(__name__)

BY_HAND = "download the zip by hand and run with --corpus PATH"
HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)

# With compression, the byte counts of Range and Content-Length would not be those of the file.
IDENTITY = {"Accept-Encoding": "identity"}


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
    with copies.only_writer(archive, wait_s=limits.total_s):
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
    part = copies.part_of(archive)
    failures: dict[str, TransientError | PermanentError | InputError] = {}
    for url in urls:
        try:
            _download_with_retries(url, part, limits, reach, deadline_s=deadline_s, progress=progress)
            if check:
                check(part)
        except (TransientError, PermanentError, InputError) as failure:
            if url != urls[-1] and not getattr(failure, "unreachable", False):
                log.info("%s: %s; tries the next mirror", redact_corpus(url), failure)
            failures[url] = failure
            if isinstance(failure, InputError):
                copies.drop(part)
        else:
            copies.publish(archive)
            return archive
    if all(isinstance(failure, TransientError) for failure in failures.values()) and copies.is_whole(
        archive, urls
    ):
        log.warning("%s; the copy downloaded earlier is used (%s)", _reasons(failures), archive)
        if check:
            check(archive)
        return archive
    raise InputError(f"{_reasons(failures)}; {BY_HAND}")


def request_headers(url: str, *, reach: Reach = ANYWHERE, timeout_s: float = 5) -> dict[str, str]:
    """The headers that identify the content of an address, without downloading it; {} if it sends none.

    Raises:
        TransientError: the server does not answer now.
        PermanentError: the server does not have the file, or refuses it.
    """
    limits = Limits(connect_s=timeout_s, slow_after_s=timeout_s)
    failure: TransientError | PermanentError = PermanentError("")
    for method in ("HEAD", "GET"):  # many servers refuse HEAD; of the answer to GET only the headers are read
        try:
            with (
                RequestGuard(reach) as guard,
                _open_response(
                    method, url, IDENTITY, guard, limits, time.monotonic() + timeout_s
                ) as response,
            ):
                if response.status_code != 200:
                    failure = status_failure(response)
                elif (found := headers_of_content(response)) or method == "GET":
                    return found
        except (TransientError, PermanentError) as error:
            failure = error
    raise failure


def unreachable_error(url: str, failure: TransientError) -> InputError:
    """The error for an address that cannot be reached and of which there is no copy."""
    return InputError(f"{_reasons({url: failure})}; {BY_HAND}")


def is_html(head: bytes) -> bool:
    return HTML.match(head) is not None


def _download_with_retries(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    backoff = wait_exponential_jitter(
        multiplier=limits.first_wait_s, max=limits.longest_wait_s, jitter=limits.first_wait_s
    )

    def wait_s(state: RetryCallState) -> float:
        return max(backoff(state), _failure(state).wait_s)

    def enough(state: RetryCallState) -> bool:
        tries = min(2, limits.tries) if _failure(state).unreachable else limits.tries
        return state.attempt_number >= tries or time.monotonic() + state.upcoming_sleep > deadline_s

    def tell(state: RetryCallState) -> None:
        if not _failure(state).unreachable:  # the error that follows says so
            log.info("%s: %s; again in %.1f s", redact_corpus(url), _failure(state), state.upcoming_sleep)

    again = Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_s,
        stop=enough,
        before_sleep=tell,
        reraise=True,
    )
    again(_download_once, url, part, limits, reach, deadline_s=deadline_s, progress=progress)


def _failure(state: RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    return failure if isinstance(failure, TransientError) else TransientError("")


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
    known = copies.read_state(part, url)
    offset = part.stat().st_size if known.get("validator") and part.exists() else 0
    headers = dict(IDENTITY)
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known["validator"]}
    with (
        RequestGuard(reach) as guard,
        _open_response("GET", url, headers, guard, limits, deadline_s) as response,
    ):
        guard.set_deadline(deadline_s - time.monotonic())
        if response.status_code == 206 and offset and continues(response, offset, known):
            total = int(known["total"]) if known.get("total") else None
        elif response.status_code in (206, 416) and offset:
            copies.drop(part)
            raise TransientError(
                f"HTTP {response.status_code} does not fit the {offset} bytes here; starting anew"
            )
        elif response.status_code == 200:
            offset, total = 0, length(response)
        else:
            raise status_failure(response)
        _check_headers(response, total, limits)
        _receive(response, part, url, offset=offset, total=total, limits=limits, progress=progress)


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
                guard.admit_url(location)
                request = client.build_request(
                    method, location, headers=headers, extensions={"trace": guard.trace}
                )
                response = client.send(request, stream=True, auth=login_of(location))
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


def _receive(
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
                copies.drop(part)
                raise PermanentError(f"more than {limits.max_bytes} bytes; is it the right address?")
            file.write(chunk)
            meter.read(done)
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


def _reasons(failures: dict[str, TransientError | PermanentError | InputError]) -> str:
    if all(isinstance(failure, TransientError) and failure.unreachable for failure in failures.values()):
        tried = ", ".join(f"{httpx2.URL(url).host} ({failure})" for url, failure in failures.items())
        return f"offline: could not reach {tried}"
    tried = ", ".join(f"{redact_corpus(url)} ({failure})" for url, failure in failures.items())
    return f"could not download {tried}"
