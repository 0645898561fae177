"""Fetch: one file over http(s), whole or not at all.

A download in progress is NAME.part beside NAME.part.json, which says what of; when it is whole and
has passed its check it becomes NAME. A cut one goes on where it stopped, if the file is the same.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from models.errors import InputError
from tasks.network import Again, Refused, Watch
from tasks.response import continues, length, status_failure, validator

log = logging.getLogger(__name__)

BY_HAND = "download the zip by hand and run with --corpus PATH"
HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|!--)", re.IGNORECASE)

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
) -> Path:
    """The file that the first good one of the mirrors `urls` holds, at `archive`.

    `check` gets the whole file before it counts and raises InputError if it is a wrong one; the
    next mirror is tried then. A whole copy from earlier is used, with a warning, if none answers.

    Raises:
        InputError: no mirror gave a good file.
    """
    deadline_s = time.monotonic() + limits.total_s
    archive.parent.mkdir(parents=True, exist_ok=True)
    failures: dict[str, Again | Refused | InputError] = {}
    for url in urls:
        try:
            _retried(url, _part(archive), limits=limits, deadline_s=deadline_s, progress=progress)
            if check:
                check(_part(archive))
        except (Again, Refused, InputError) as failure:
            log.warning("%s: %s", shown(url), failure)
            failures[url] = failure
            if isinstance(failure, InputError):
                _drop(_part(archive))
        else:
            _publish(archive)
            return archive
    if all(isinstance(failure, Again) for failure in failures.values()) and _is_kept(archive, urls):
        log.warning("no mirror answers: the copy downloaded earlier is used (%s)", archive)
        if check:
            check(archive)
        return archive
    raise InputError(_told(failures))


def probe(url: str, *, timeout_s: float = 5) -> dict[str, str] | None:
    """What tells one content of an address from another, without getting it; None if unreached."""
    wanted = ("etag", "last-modified", "content-length")
    limits = Limits(connect_s=timeout_s, slow_after_s=timeout_s)
    try:
        with (
            Watch() as watch,
            _answer("HEAD", url, {}, watch, limits, time.monotonic() + timeout_s) as response,
        ):
            if response.status_code != 200:
                return {}  # many servers refuse HEAD; the download itself will say what is wrong
            return {name: response.headers[name] for name in wanted if name in response.headers}
    except Again as failure:
        log.warning("%s: %s", shown(url), failure)
        return None
    except Refused:
        return {}


def looks_like_html(head: bytes) -> bool:
    return HTML.match(head) is not None


def shown(url: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return repr(url[:80])
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.host}{port}{parts.path}"


def _retried(url: str, part: Path, *, limits: Limits, deadline_s: float, progress: Progress) -> None:
    backoff = wait_exponential_jitter(
        multiplier=limits.first_wait_s, max=limits.longest_wait_s, jitter=limits.first_wait_s
    )

    def wait_s(state: RetryCallState) -> float:
        return max(backoff(state), _failure(state).wait_s)

    def enough(state: RetryCallState) -> bool:
        tries = min(2, limits.tries) if _failure(state).unreachable else limits.tries
        return state.attempt_number >= tries or time.monotonic() + state.upcoming_sleep > deadline_s

    def tell(state: RetryCallState) -> None:
        log.info("%s: %s; again in %.1f s", shown(url), _failure(state), state.upcoming_sleep)

    again = Retrying(
        retry=retry_if_exception_type(Again),
        wait=wait_s,
        stop=enough,
        before_sleep=tell,
        reraise=True,
    )
    again(_try_once, url, part, limits=limits, deadline_s=deadline_s, progress=progress)


def _failure(state: RetryCallState) -> Again:
    failure = state.outcome.exception() if state.outcome else None
    return failure if isinstance(failure, Again) else Again("")


def _try_once(url: str, part: Path, *, limits: Limits, deadline_s: float, progress: Progress) -> None:
    """Bring `part` to its end, or raise with it as far as it got."""
    if time.monotonic() > deadline_s:
        raise Again(f"not done within {limits.total_s:g} s")
    known = _read_state(part, url)
    offset = part.stat().st_size if known.get("validator") and part.exists() else 0
    # Compressed on the way, the byte counts of Range and Content-Length would not be the file's.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known["validator"]}
    with Watch() as watch, _answer("GET", url, headers, watch, limits, deadline_s) as response:
        watch.arm(deadline_s - time.monotonic())
        if response.status_code == 206 and offset and continues(response, offset, known):
            total = int(known["total"]) if known.get("total") else None
        elif response.status_code in (206, 416) and offset:
            _drop(part)
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
        with httpx2.Client(timeout=timeout) as client:
            here = httpx2.URL(url)
            for _ in range(limits.max_redirects + 1):
                watch.admit_url(here)
                request = client.build_request(
                    method, here, headers=headers, extensions={"trace": watch.trace}
                )
                response = client.send(request, stream=True)
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
            _write_state(part, url, response, total)
        for chunk in itertools.chain([head], chunks):
            done += len(chunk)
            if done > limits.max_bytes:
                _drop(part)
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


def _part(archive: Path) -> Path:
    return archive.with_name(archive.name + ".part")


def _state(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the address itself may hold a password


def _write_state(part: Path, url: str, response: httpx2.Response, total: int | None) -> None:
    known = {"url_sha256": _digest(url), "validator": validator(response), "total": total}
    _state(part).write_text(json.dumps(known) + "\n")


def _read_state(path: Path, *urls: str) -> dict[str, Any]:
    """What is known of the file if it came from one of `urls`, else nothing."""
    try:
        known = json.loads(_state(path).read_text())
        return known if known["url_sha256"] in map(_digest, urls) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_kept(archive: Path, urls: list[str]) -> bool:
    return archive.is_file() and bool(_read_state(archive, *urls))


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _publish(archive: Path) -> None:
    part = _part(archive)
    _state(archive).unlink(missing_ok=True)  # first, so that it never describes another file
    part.replace(archive)
    _state(part).replace(_state(archive))


def _told(failures: dict[str, Again | Refused | InputError]) -> str:
    if all(isinstance(failure, Again) and failure.unreachable for failure in failures.values()):
        tried = ", ".join(f"{httpx2.URL(url).host} ({failure})" for url, failure in failures.items())
        return f"offline: could not reach {tried}; {BY_HAND}"
    tried = ", ".join(f"{shown(url)} ({failure})" for url, failure in failures.items())
    return f"could not download {tried}; {BY_HAND}"
