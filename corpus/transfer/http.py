"""HTTP: downloads a file over http(s), completely or not at all.

A complete file that has passed its check replaces the earlier copy (corpus/transfer/copies.py). An
interrupted download resumes where it stopped, if the server still has the same file.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from corpus.transfer import copies
from corpus.transfer.attempt import UNCOMPRESSED, download_once, open_response
from corpus.transfer.guard import (
    ANYWHERE,
    PermanentError,
    Reach,
    RequestGuard,
    TransientError,
)
from corpus.transfer.headers import identifying_headers, status_error
from corpus.transfer.limits import Limits, Progress
from models.addresses import redact_corpus
from models.errors import InputError

log = logging.getLogger(__name__)

MANUAL_REMEDY = "download the zip manually and run with --corpus PATH"


def fetch(
    urls: list[str],
    archive: Path,
    *,
    limits: Limits,
    progress: Progress,
    check: Callable[[Path], object] | None = None,
    reach: Reach = ANYWHERE,
) -> Path:
    """Download a file to `archive`, from the first of the mirrors `urls` whose file passes the check.

    `check` is called with the complete file. If it raises InputError, the next mirror is tried.
    If no mirror answers, a complete copy from an earlier download is used, with a warning.

    Raises:
        InputError: no mirror has a file that passes the check, or another process is still downloading it.
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
            download_with_retries(url, part, limits, reach, deadline_s=deadline_s, progress=progress)
            if check:
                check(part)
        except (TransientError, PermanentError, InputError) as error:
            if url != urls[-1] and not getattr(error, "unreachable", False):
                log.info("%s: %s; trying the next mirror", redact_corpus(url), error)
            errors[url] = error
            if isinstance(error, InputError):
                copies.delete(part)
        else:
            copies.publish(archive)
            return archive
    if all(isinstance(error, TransientError) for error in errors.values()) and copies.is_complete(
        archive, urls
    ):
        log.warning("%s; the copy downloaded earlier is used (%s)", describe(errors), archive)
        if check:
            check(archive)
        return archive
    raise InputError(f"{describe(errors)}; {MANUAL_REMEDY}")


def request_headers(url: str, *, reach: Reach = ANYWHERE, timeout_s: float = 5) -> dict[str, str]:
    """The headers that identify the file at an address; {} if there are none. The file is not downloaded.

    Raises:
        TransientError: the server does not answer at the moment.
        PermanentError: the server does not have the file, or the address must not be used.
    """
    limits = Limits(connect_s=timeout_s, slow_after_s=timeout_s)
    last_error: TransientError | PermanentError = PermanentError("")
    for method in ("HEAD", "GET"):  # many servers refuse HEAD; the body of a GET is not read
        try:
            with (
                RequestGuard(reach) as guard,
                open_response(
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
    """The error for an address that cannot be reached and of which there is no earlier copy."""
    return InputError(f"{describe({url: error})}; {MANUAL_REMEDY}")


def download_with_retries(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    """Download the missing rest of the file `part`, in as many attempts as the limits allow.

    Raises:
        TransientError: the last attempt has failed, and a later one may succeed.
        PermanentError: no attempt can succeed.
    """
    backoff = wait_exponential_jitter(
        multiplier=limits.first_wait_s, max=limits.longest_wait_s, jitter=limits.first_wait_s
    )

    def wait_s(state: RetryCallState) -> float:
        return max(backoff(state), _last_error(state).wait_s)

    def should_stop(state: RetryCallState) -> bool:
        tries = min(2, limits.tries) if _last_error(state).unreachable else limits.tries
        return state.attempt_number >= tries or time.monotonic() + state.upcoming_sleep > deadline_s

    def log_retry(state: RetryCallState) -> None:
        if not _last_error(state).unreachable:  # the final error says that the host is unreachable
            log.info(
                "%s: %s; trying again in %.1f s", redact_corpus(url), _last_error(state), state.upcoming_sleep
            )

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait_s,
        stop=should_stop,
        before_sleep=log_retry,
        reraise=True,
    )
    retrying(download_once, url, part, limits, reach, deadline_s=deadline_s, progress=progress)


def _last_error(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, TransientError) else TransientError("")


def describe(errors: Mapping[str, TransientError | PermanentError | InputError]) -> str:
    """Which addresses could not be reached or downloaded, and why."""
    if all(isinstance(error, TransientError) and error.unreachable for error in errors.values()):
        tried = ", ".join(f"{httpx2.URL(url).host} ({error})" for url, error in errors.items())
        return f"offline: could not reach {tried}"
    tried = ", ".join(f"{redact_corpus(url)} ({error})" for url, error in errors.items())
    return f"could not download {tried}"
