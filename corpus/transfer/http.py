"""Fetch: one file over http(s), whole or not at all.

When it is whole and has passed its check it becomes the copy that is kept (corpus/transfer/copies.py). A cut
download goes on where it stopped, if the file is the same.
"""

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from corpus.transfer import copies
from corpus.transfer.guard import ANYWHERE, Again, Reach, Refused, Watch, login_of, silence_request_log
from corpus.transfer.headers import continues, headers_of_content, length, status_failure
from models.addresses import shown
from models.errors import InputError

log = logging.getLogger(__name__)

BY_HAND = "download the zip by hand and run with --corpus PATH"
HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)

# Compressed on the way, the byte counts of Range and Content-Length would not be the file's.
IDENTITY = {"Accept-Encoding": "identity"}

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Limits:
    """What a download may cost; crossing one ends it with a message that names it."""

    total_s: float = 1800
    """Over all tries and mirrors."""
    max_bytes: int = 4 * 2**30
    connect_s: float = 10
    slow_after_s: float = 30
    """A silence this long, or this long below `min_bytes_per_s`, cuts a try short."""
    min_bytes_per_s: float = 1000
    tries: int = 5
    """Of one address that answers; one that cannot be reached gets 2."""
    first_wait_s: float = 0.5
    longest_wait_s: float = 30
    max_redirects: int = 5


def fetch(
    urls: list[str],
    archive: Path,
    *,
    limits: Limits,
    progress: Progress,
    check: Callable[[Path], object] | None = None,
    reach: Reach = ANYWHERE,
) -> Path:
    """The file that the first good one of the mirrors `urls` holds, at `archive`.

    `check` gets the whole file before it counts and raises InputError if it is a wrong one; the
    next mirror is tried then. A whole copy from earlier is used, with a warning, if none answers.

    Raises:
        InputError: no mirror gave a good file.
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
    failures: dict[str, Again | Refused | InputError] = {}
    for url in urls:
        try:
            _retried(url, part, limits, reach, deadline_s=deadline_s, progress=progress)
            if check:
                check(part)
        except (Again, Refused, InputError) as failure:
            if url != urls[-1] and not getattr(failure, "unreachable", False):
                log.info("%s: %s; tries the next mirror", shown(url), failure)
            failures[url] = failure
            if isinstance(failure, InputError):
                copies.drop(part)
        else:
            copies.publish(archive)
            return archive
    if all(isinstance(failure, Again) for failure in failures.values()) and copies.is_whole(archive, urls):
        log.warning("%s; the copy downloaded earlier is used (%s)", _reasons(failures), archive)
        if check:
            check(archive)
        return archive
    raise InputError(f"{_reasons(failures)}; {BY_HAND}")


def headers_of(url: str, *, reach: Reach = ANYWHERE, timeout_s: float = 5) -> dict[str, str]:
    """What tells one content of an address from another, without getting it; {}: its server does not say.

    Raises:
        Again: it does not answer now.
        Refused: it has no such file, or not for us.
    """
    limits = Limits(connect_s=timeout_s, slow_after_s=timeout_s)
    failure: Again | Refused = Refused("")
    for method in ("HEAD", "GET"):  # many servers refuse HEAD; of a GET nothing but the headers is read
        try:
            with (
                Watch(reach) as watch,
                _answer(method, url, IDENTITY, watch, limits, time.monotonic() + timeout_s) as response,
            ):
                if response.status_code != 200:
                    failure = status_failure(response)
                elif (found := headers_of_content(response)) or method == "GET":
                    return found
        except (Again, Refused) as error:
            failure = error
    raise failure


def unreached(url: str, failure: Again) -> InputError:
    """The line for an address that cannot be reached and of which there is no copy."""
    return InputError(f"{_reasons({url: failure})}; {BY_HAND}")


def looks_like_html(head: bytes) -> bool:
    return HTML.match(head) is not None


def _retried(
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
        if not _failure(state).unreachable:  # which the end says, a moment later
            log.info("%s: %s; again in %.1f s", shown(url), _failure(state), state.upcoming_sleep)

    again = Retrying(
        retry=retry_if_exception_type(Again),
        wait=wait_s,
        stop=enough,
        before_sleep=tell,
        reraise=True,
    )
    again(_try_once, url, part, limits, reach, deadline_s=deadline_s, progress=progress)


def _failure(state: RetryCallState) -> Again:
    failure = state.outcome.exception() if state.outcome else None
    return failure if isinstance(failure, Again) else Again("")


def _try_once(
    url: str, part: Path, limits: Limits, reach: Reach, *, deadline_s: float, progress: Progress
) -> None:
    """Bring `part` to its end, or raise with it as far as it got."""
    if time.monotonic() > deadline_s:
        raise Again(f"not done within {limits.total_s:g} s")
    known = copies.read_state(part, url)
    offset = part.stat().st_size if known.get("validator") and part.exists() else 0
    headers = dict(IDENTITY)
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known["validator"]}
    with Watch(reach) as watch, _answer("GET", url, headers, watch, limits, deadline_s) as response:
        watch.arm(deadline_s - time.monotonic())
        if response.status_code == 206 and offset and continues(response, offset, known):
            total = int(known["total"]) if known.get("total") else None
        elif response.status_code in (206, 416) and offset:
            copies.drop(part)
            raise Again(f"HTTP {response.status_code} does not fit the {offset} bytes here; starting anew")
        elif response.status_code == 200:
            offset, total = 0, length(response)
        else:
            raise status_failure(response)
        _check_headers(response, total, limits)
        _receive(response, part, url, offset=offset, total=total, limits=limits, progress=progress)


@contextlib.contextmanager
def _answer(
    method: str, url: str, headers: dict[str, str], watch: Watch, limits: Limits, deadline_s: float
) -> Iterator[httpx2.Response]:
    """The response after the redirects, each checked; what goes wrong is Again or Refused."""
    timeout = httpx2.Timeout(limits.slow_after_s, connect=limits.connect_s)
    watch.arm(min(limits.slow_after_s + limits.connect_s, deadline_s - time.monotonic()))
    try:
        silence_request_log()
        with httpx2.Client(timeout=timeout) as client:
            here = httpx2.URL(url)
            for _ in range(limits.max_redirects + 1):
                watch.admit_url(here)
                request = client.build_request(
                    method, here, headers=headers, extensions={"trace": watch.trace}
                )
                response = client.send(request, stream=True, auth=login_of(here))
                if not response.has_redirect_location:
                    break
                response.close()
                here = here.join(response.headers["location"])
            else:
                raise Refused(f"more than {limits.max_redirects} redirects")
            with contextlib.closing(response):
                yield response
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Refused(f"a wrong address: {error}") from None
    except httpx2.TransportError as error:
        raise watch.again(error) from None


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
    if looks_like_html(head):
        raise Refused("got HTML, not a zip")  # and what was here of the file stays
    done, meter = offset, _Meter(offset, total, limits, progress)
    with part.open("ab" if offset else "wb") as file:
        if not offset:
            # After the old bytes are gone and before the first new one, so that it never lies.
            copies.write_state(part, url, response, total)
        for chunk in itertools.chain([head], chunks):
            done += len(chunk)
            if done > limits.max_bytes:
                copies.drop(part)
                raise Refused(f"more than {limits.max_bytes} bytes; is it the right address?")
            file.write(chunk)
            meter.read(done)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise Again(f"got {done} of {total} bytes")
    progress(done, total)


class _Meter:
    """Tells the progress once a second, and gives up on a crawl."""

    def __init__(self, done: int, total: int | None, limits: Limits, progress: Progress) -> None:
        self._total, self._limits, self._progress = total, limits, progress
        self._told_s = self._since_s = time.monotonic()
        self._since_bytes = done

    def read(self, done: int) -> None:
        now_s, limits = time.monotonic(), self._limits
        if now_s - self._since_s >= limits.slow_after_s:
            if (done - self._since_bytes) / (now_s - self._since_s) < limits.min_bytes_per_s:
                slow = f"{limits.min_bytes_per_s:g} bytes/s for {limits.slow_after_s:g} s"
                raise Again(f"slower than {slow}")
            self._since_s, self._since_bytes = now_s, done
        if now_s - self._told_s >= 1:
            self._progress(done, self._total)
            self._told_s = now_s


def _check_headers(response: httpx2.Response, total: int | None, limits: Limits) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise Refused(f"sent {encoding[:40]!r}-encoded bytes that were not asked for")
    if total is not None and total > limits.max_bytes:
        raise Refused(f"{total} bytes, more than the {limits.max_bytes} allowed; is it the right address?")


def _reasons(failures: dict[str, Again | Refused | InputError]) -> str:
    if all(isinstance(failure, Again) and failure.unreachable for failure in failures.values()):
        tried = ", ".join(f"{httpx2.URL(url).host} ({failure})" for url, failure in failures.items())
        return f"offline: could not reach {tried}"
    tried = ", ".join(f"{shown(url)} ({failure})" for url, failure in failures.items())
    return f"could not download {tried}"
