"""The test server uses real sockets and breaks real connections: nothing between them is simulated."""

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import pytest
from filelock import FileLock

from corpus.transfer.guard import PermanentError, Reach, RequestGuard, TransientError, zone
from corpus.transfer.http import fetch, request_headers
from corpus.transfer.limits import Limits
from models.addresses import redact_corpus
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
BODY = b"PK\x03\x04" + bytes(range(256)) * 40
QUICK = Limits(
    total_s=5,
    connect_s=1,
    slow_after_s=0.3,
    first_wait_s=0.01,
    longest_wait_s=0.05,
    max_bytes=10**6,
)


@dataclass
class Call:
    """One request to the server, and the socket for its response."""

    wire: socket.socket
    method: str
    path: str
    headers: dict[str, str]

    def send(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(body) if length is None else length}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.wire.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    def start(self) -> int | None:
        return int(self.headers["range"][6:-1]) if "range" in self.headers else None

    def send_rest(self, body: bytes, etag: str) -> None:
        """Respond as a server that supports Range and If-Range."""
        start = self.start()
        if start is None or self.headers["if-range"] != etag:
            self.send(200, body, ETag=etag)
        else:
            content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send(206, body[start:], ETag=etag, Content_Range=content_range)


@dataclass
class FaultServer:
    """Answers the n-th request with the n-th of `answers`, and any after that with the last."""

    answers: list[Callable[[Call], None]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.root = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=[wire], daemon=True).start()

    def answer(self, wire: socket.socket) -> None:
        with wire:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := wire.recv(65536)):
                    return
                head += more
            first, *rest = head.decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in rest)}
            method, path, _ = first.split()
            call = Call(wire, method, path, headers)
            self.calls.append(call)
            with contextlib.suppress(OSError):  # the client closes some of the connections, as it should
                self.answers[min(len(self.calls), len(self.answers)) - 1](call)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    server = FaultServer()
    yield server
    server.listener.close()


def get(url: str | list[str], folder: Path, limits: Limits = QUICK, **more: object) -> bytes:
    urls = [url] if isinstance(url, str) else url
    path = fetch(urls, folder / "corpus", limits=limits, progress=lambda *_: None, **more)  # type: ignore[arg-type]
    assert path == folder / "corpus"
    assert not (folder / "corpus.part").exists()
    return path.read_bytes()


def until(happens: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def complete(call: Call) -> None:
    call.send_rest(BODY, '"one"')


def status(code: int, **headers: str) -> Callable[[Call], None]:
    return lambda call: call.send(code, b"no", length=None, **headers)


def cut(call: Call) -> None:
    call.send(200, BODY[:6000], length=len(BODY), ETag='"one"')


def test_a_file_arrives_complete_and_its_progress_is_reported(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [complete]
    reports: list[tuple[int, int | None]] = []
    path = fetch(
        [server.root + "/x.zip"],
        tmp_path / "a" / "x",
        limits=QUICK,
        progress=lambda *now: reports.append(now),
    )
    assert path.read_bytes() == BODY
    assert reports[-1] == (len(BODY), len(BODY))
    assert server.calls[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_transient_error_is_followed_by_another_attempt(
    server: FaultServer, tmp_path: Path, code: int
) -> None:
    server.answers = [status(code), complete]
    assert get(server.root, tmp_path) == BODY


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_permanent_error_leads_to_the_next_mirror_at_once(
    server: FaultServer, tmp_path: Path, code: int
) -> None:
    server.answers = [status(code), complete]
    assert get([server.root + "/a", server.root + "/b"], tmp_path) == BODY
    assert [call.path for call in server.calls] == ["/a", "/b"]


def test_a_missing_file_is_one_line_with_its_address_and_the_remedy(
    server: FaultServer, tmp_path: Path
) -> None:
    server.answers = [status(404)]
    address = server.root.replace("//", "//me:secret@") + "/x.zip?token=secret"
    with pytest.raises(
        InputError, match=r"could not download http://127.*/x.zip \(HTTP 404 X\).*--corpus PATH"
    ) as error:
        get(address, tmp_path)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.calls) == 1


def test_a_cut_body_is_resumed_where_it_stopped(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, complete]
    assert get(server.root, tmp_path) == BODY
    assert server.calls[1].headers["range"] == "bytes=6000-"
    assert server.calls[1].headers["if-range"] == '"one"'


def test_a_later_download_resumes_a_cut_one(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, complete]
    with pytest.raises(InputError):
        get(server.root, tmp_path, Limits(tries=1))
    assert get(server.root, tmp_path) == BODY
    assert server.calls[1].start() == 6000


def test_the_rest_is_never_requested_from_another_address(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, complete]
    assert get([server.root + "/a", server.root + "/b"], tmp_path, Limits(tries=1)) == BODY
    assert server.calls[1].start() is None


def test_a_cut_body_without_an_identity_is_downloaded_from_the_start(
    server: FaultServer, tmp_path: Path
) -> None:
    server.answers = [lambda call: call.send(200, BODY[:50], length=len(BODY)), complete]
    assert get(server.root, tmp_path) == BODY
    assert server.calls[1].start() is None


def test_a_weak_etag_identifies_no_bytes_but_a_date_does(server: FaultServer, tmp_path: Path) -> None:
    date = formatdate(0, usegmt=True)
    server.answers = [
        lambda call: call.send(200, BODY[:99], length=len(BODY), ETag='W/"one"', Last_Modified=date),
        lambda call: call.send(
            206,
            BODY[99:],
            Last_Modified=date,
            Content_Range=f"bytes 99-{len(BODY) - 1}/{len(BODY)}",
        ),
    ]
    assert get(server.root, tmp_path) == BODY
    assert server.calls[1].headers["if-range"] == date


def test_a_server_that_ignores_range_is_read_from_the_start(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, lambda call: call.send(200, BODY, ETag='"one"')]
    assert get(server.root, tmp_path) == BODY
    assert server.calls[1].start() == 6000


OTHER = BODY[:4] + BODY[:3:-1]  # of the same length


def test_two_versions_are_never_spliced(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, lambda call: call.send_rest(OTHER, '"two"')]
    assert get(server.root, tmp_path) == OTHER


@pytest.mark.parametrize(
    "rest",
    [
        lambda call: call.send(
            206,
            OTHER[6000:],
            ETag='"two"',
            Content_Range=f"bytes 6000-{len(OTHER) - 1}/{len(OTHER)}",
        ),
        lambda call: call.send(
            206, BODY[5000:], ETag='"one"', Content_Range=f"bytes 5000-{len(BODY) - 1}/{len(BODY)}"
        ),
        lambda call: call.send(206, BODY[6000:], ETag='"one"', Content_Range="bytes 6000-99998/99999"),
        lambda call: call.send(206, BODY[6000:], ETag='"one"'),
        lambda call: call.send(416),
    ],
    ids=["another file", "another offset", "another length", "no offset", "not satisfiable"],
)
def test_a_rest_that_does_not_fit_is_followed_by_a_download_from_the_start(
    server: FaultServer, tmp_path: Path, rest: Callable[[Call], None]
) -> None:
    server.answers = [cut, rest, complete]
    assert get(server.root, tmp_path) == BODY
    assert server.calls[2].start() is None


def test_a_damaged_description_of_a_part_is_followed_by_a_download_from_the_start(
    server: FaultServer, tmp_path: Path
) -> None:
    server.answers = [complete]
    (tmp_path / "corpus.part").write_bytes(b"junk")
    (tmp_path / "corpus.part.json").write_text('{"url_sha')
    assert get(server.root, tmp_path) == BODY


def test_a_reset_connection_is_followed_by_another_attempt(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [
        lambda call: call.wire.close(),
        lambda call: call.wire.sendall(b"junk\r\n\r\n"),
        complete,
    ]
    assert get(server.root, tmp_path) == BODY


def test_the_next_attempt_waits_for_retry_after(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [status(503, Retry_After="1"), complete]
    started_s = time.monotonic()
    assert get(server.root, tmp_path, Limits(total_s=5)) == BODY
    assert 1 <= time.monotonic() - started_s < 2


def test_no_attempt_waits_past_the_deadline(server: FaultServer, tmp_path: Path) -> None:
    later = formatdate(time.time() + 3600, usegmt=True)
    server.answers = [status(429, Retry_After=later)]
    with pytest.raises(InputError, match="HTTP 429"):
        get(server.root, tmp_path)
    assert len(server.calls) == 1


def test_the_number_of_attempts_is_limited(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [status(503, Retry_After="soon")]
    with pytest.raises(InputError, match="HTTP 503"):
        get(server.root, tmp_path)
    assert len(server.calls) == QUICK.tries


def drip(call: Call, head: bytes, drop: bytes) -> None:
    call.wire.sendall(head)
    while True:
        call.wire.sendall(drop)
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + BODY[:99], b"."),
        (b"HTTP/1.1 200 OK\r\nX: ", b"."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"."),
    ],
    ids=["body", "headers", "chunk header"],
)
def test_a_server_that_sends_a_byte_at_a_time_is_given_up(
    server: FaultServer, tmp_path: Path, head: bytes, drop: bytes
) -> None:
    server.answers = [lambda call: drip(call, head, drop)]
    limits = Limits(total_s=0.6, slow_after_s=0.1, connect_s=0.2, tries=2, first_wait_s=0.01)
    started_s = time.monotonic()
    with pytest.raises(InputError, match=r"slower than 1000 bytes/s|not done within"):
        get(server.root, tmp_path, limits)
    assert time.monotonic() - started_s < 1


def test_a_silent_server_is_given_up(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [lambda call: time.sleep(2)]
    with pytest.raises(InputError, match="could not download"):
        get(server.root, tmp_path, Limits(slow_after_s=0.1, tries=2, first_wait_s=0.01))


def test_an_endless_body_ends_at_the_size_limit(server: FaultServer, tmp_path: Path) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers = [lambda call: drip(call, head, chunk * 4)]
    with pytest.raises(InputError, match="more than 1000000 bytes"):
        get(server.root, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_is_announced_as_too_large_is_not_read(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [lambda call: call.send(200, length=10**12)]
    with pytest.raises(InputError, match="1000000000000 bytes, more than the 1000000 allowed"):
        get(server.root, tmp_path)


def test_a_redirect_is_followed(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [status(302, Location="/b"), complete]
    assert get(server.root + "/a", tmp_path) == BODY
    assert server.calls[1].path == "/b"


def test_a_redirect_loop_ends(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [status(302, Location="/a")]
    with pytest.raises(InputError, match="more than 5 redirects"):
        get(server.root + "/a", tmp_path)
    assert len(server.calls) == 6


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "file: is not http or https"),
        ("ftp://127.0.0.1/x", "ftp: is not http or https"),
        ("http://169.254.169.254/latest", "the link-local address 169.254.169.254"),
        ("http://10.0.0.1/", "the private address 10.0.0.1"),
        ("http://[::ffff:10.0.0.1]/", "the private address"),
    ],
)
def test_a_redirect_to_a_private_address_or_another_scheme_is_refused(
    server: FaultServer, tmp_path: Path, target: str, reason: str
) -> None:
    server.answers = [status(302, Location=target)]
    with pytest.raises(InputError, match=reason):
        get(server.root, tmp_path)


def test_a_public_host_cannot_redirect_to_a_private_address_or_away_from_https() -> None:
    with RequestGuard() as guard:
        guard.check_address("93.184.216.34")
        guard.check_address("8.8.8.8")
        for address in (
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "192.168.1.1",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
        ):
            with pytest.raises(PermanentError, match="redirected to the"):
                guard.check_address(address)
        guard.check_url(httpx2.URL("https://example.org/"))
        with pytest.raises(PermanentError, match="from https to http"):
            guard.check_url(httpx2.URL("http://example.org/"))


@dataclass
class Stream:
    """A connected socket, as the HTTP client passes it on."""

    wire: socket.socket

    def get_extra_info(self, name: str) -> object:
        return {"socket": self.wire, "server_addr": self.wire.getpeername()}[name]


def test_the_address_of_the_peer_is_checked_and_not_its_name(server: FaultServer, tmp_path: Path) -> None:
    """The connection to a public name that turns out to be this machine is dropped before it is used."""
    with RequestGuard() as guard, pytest.raises(PermanentError, match="loopback"):
        guard.check_address("8.8.8.8")
        with socket.create_connection(server.listener.getsockname()) as wire:
            guard.trace("connection.connect_tcp.started", {"host": "public.example"})
            guard.trace("connection.connect_tcp.complete", {"return_value": Stream(wire)})
    assert server.calls == []


def test_an_ip_address_has_one_zone() -> None:
    assert zone("1.1.1.1") == zone("2606:4700::1111") == "public"
    assert zone("100.64.0.1") == zone("fd00::1") == "private"


@pytest.mark.parametrize("page", [b"<html><body>Sign in", b"\n<!DOCTYPE html><p>", b"\xef\xbb\xbf<HTML>"])
def test_a_web_page_with_status_200_is_refused(server: FaultServer, tmp_path: Path, page: bytes) -> None:
    server.answers = [lambda call: call.send(200, page)]
    with pytest.raises(InputError, match="got HTML, not a zip"):
        get(server.root, tmp_path)


def test_a_sign_in_page_does_not_replace_the_bytes_on_the_disk(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [cut, lambda call: call.send(200, b"<html>Sign in"), complete]
    with pytest.raises(InputError, match="got HTML"):
        get(server.root, tmp_path)
    assert get(server.root, tmp_path) == BODY
    assert server.calls[2].start() == 6000


def test_a_compressed_body_is_refused(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [lambda call: call.send(200, BODY, Content_Encoding="gzip")]
    with pytest.raises(InputError, match="'gzip'-encoded"):
        get(server.root, tmp_path)


def refuse_other(path: Path) -> None:
    if path.read_bytes() != BODY:
        raise InputError("the wrong file")


def test_a_wrong_file_is_deleted_and_the_next_mirror_is_tried(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [lambda call: call.send(200, OTHER), complete]
    assert get([server.root + "/a", server.root + "/b"], tmp_path, check=refuse_other) == BODY


def test_a_wrong_file_does_not_replace_a_good_one(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [complete, lambda call: call.send(200, OTHER)]
    get(server.root, tmp_path, check=refuse_other)
    with pytest.raises(InputError, match="the wrong file"):
        get(server.root, tmp_path, check=refuse_other)
    assert (tmp_path / "corpus").read_bytes() == BODY
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "corpus.json"}


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x.zip"


def test_offline_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^offline: could not reach 127.0.0.1 \(.*\); download the zip by hand"
    ) as error:
        get(closed_port(), tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_host_is_reported_as_offline(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"offline: could not reach no\.such\.host\.invalid"):
        get("http://no.such.host.invalid/x.zip", tmp_path)


def test_an_outage_is_a_warning_where_there_is_an_earlier_copy(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [complete, status(503)]
    get(server.root, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert get(server.root, tmp_path) == BODY
    assert "the copy downloaded earlier is used" in caplog.text


def test_a_copy_of_another_address_is_not_used(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [complete]
    get(server.root, tmp_path)
    with pytest.raises(InputError, match="offline"):
        get(closed_port(), tmp_path)


def test_no_address_is_stored_with_a_copy(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [complete]
    get(server.root + "/x.zip?token=secret", tmp_path)
    assert set(json.loads((tmp_path / "corpus.json").read_text())) == {
        "url_sha256",
        "validator",
        "total",
        "headers",
    }
    assert redact_corpus("https://me:pw@host:8443/a/x.zip?token=t#f") == "https://host:8443/a/x.zip"


def test_a_head_request_gets_the_headers_that_identify_the_content(server: FaultServer) -> None:
    server.answers = [lambda call: call.send(200, length=77, ETag='"one"', X="y")]
    assert request_headers(server.root) == {"etag": '"one"', "content-length": "77"}
    assert [call.method for call in server.calls] == ["HEAD"]


@pytest.mark.parametrize("code", [403, 404, 405, 501, 503])
def test_a_server_that_refuses_head_gets_a_get_request(server: FaultServer, code: int) -> None:
    server.answers = [status(code), lambda call: call.send(200, BODY, ETag='"one"')]
    assert request_headers(server.root) == {"etag": '"one"', "content-length": str(len(BODY))}
    assert [call.method for call in server.calls] == ["HEAD", "GET"]


def test_a_length_alone_identifies_no_content(server: FaultServer) -> None:
    server.answers = [lambda call: call.send(200, BODY)]
    assert request_headers(server.root) == {}


def test_a_server_that_is_down_is_a_transient_error_and_a_missing_file_a_permanent_one(
    server: FaultServer,
) -> None:
    server.answers = [status(503), status(503), status(404)]
    with pytest.raises(TransientError, match="HTTP 503"):
        request_headers(server.root)
    with pytest.raises(PermanentError, match="HTTP 404"):
        request_headers(server.root)
    with pytest.raises(TransientError) as failure:
        request_headers(closed_port())
    assert failure.value.unreachable


FETCH = """
import sys
from pathlib import Path
from corpus.transfer.http import fetch
from corpus.transfer.limits import Limits
fetch([sys.argv[1]], Path(sys.argv[2]), limits=Limits(), progress=lambda *_: None)
"""


def test_two_downloads_to_one_file_come_one_after_the_other(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise each would write into the other's NAME.part, and the first to end would move it away."""
    go_on = threading.Event()

    def slow(call: Call) -> None:
        call.wire.sendall(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[:5000])
        go_on.wait(60)
        call.wire.sendall(BODY[5000:])

    server.answers = [slow, complete]
    words = [sys.executable, "-c", FETCH, server.root, str(tmp_path / "corpus")]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) as other:
        until(lambda: (tmp_path / "corpus.part").exists())
        caplog.set_level(logging.INFO)
        with ThreadPoolExecutor() as pool:
            mine = pool.submit(get, server.root, tmp_path)
            until(lambda: "another process is downloading corpus" in caplog.text)
            assert len(server.calls) == 1
            go_on.set()
            assert mine.result(timeout=60) == BODY
        assert other.wait(60) == 0
    assert (tmp_path / "corpus").read_bytes() == BODY


def test_waiting_for_the_download_of_another_process_has_a_limit(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [complete]
    with (
        FileLock(tmp_path / "corpus.lock", is_singleton=False),
        ThreadPoolExecutor() as pool,
        pytest.raises(InputError, match=r"another process has been downloading .*corpus for 0.1 s"),
    ):
        pool.submit(get, server.root, tmp_path, Limits(total_s=0.1)).result()
    assert server.calls == []


INSIDE = ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"]
INSIDE += [
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "224.0.0.1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_a_deployed_run_reads_no_address_that_is_not_public(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with (
        RequestGuard(Reach(public_only=True)) as guard,
        pytest.raises(PermanentError, match="which a deployed run may not"),
    ):
        guard.check_url(httpx2.URL(f"http://{host}/x.zip"))


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_deployed_run_reads_no_loopback_address_in_any_spelling(
    server: FaultServer, tmp_path: Path, host: str
) -> None:
    server.answers = [complete]
    url = server.root.replace("127.0.0.1", host) + "/x.zip"
    with pytest.raises(InputError, match=r"loopback address.*REPARTEE_DOWNLOAD_HOSTS"):
        get(url, tmp_path, reach=Reach(public_only=True))
    assert server.calls == []


def test_a_deployed_run_reads_no_name_whose_second_lookup_is_a_private_address(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives a public address at first: the address of the peer is checked again."""
    look_up, hosts = socket.getaddrinfo, []

    def rebind(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        hosts.append(host)
        public = len(hosts) == 1
        return look_up("93.184.216.34" if public else "127.0.0.1", port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    server.answers = [complete]
    url = server.root.replace("127.0.0.1", "rebinding.example") + "/x.zip"
    with pytest.raises(InputError, match=r"rebinding.example is a loopback address"):
        get(url, tmp_path, reach=Reach(public_only=True))
    assert len(hosts) == 2 and server.calls == []


def test_a_deployed_run_follows_no_redirect_to_a_private_address(server: FaultServer, tmp_path: Path) -> None:
    server.answers = [status(302, Location="http://169.254.169.254/latest/meta-data")]
    allowed = Reach(public_only=True, allowed=("127.0.0.1",))
    with pytest.raises(InputError, match=r"169.254.169.254 is a link-local address, which a deployed run"):
        get(server.root, tmp_path, reach=allowed)


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "LOCALHOST"])
def test_a_deployed_run_reads_the_hosts_and_networks_that_the_setting_lists(
    server: FaultServer, tmp_path: Path, allowed: str
) -> None:
    server.answers = [complete]
    url = server.root.replace("127.0.0.1", "localhost" if allowed == "LOCALHOST" else "127.0.0.1")
    assert get(url, tmp_path, reach=Reach(public_only=True, allowed=("10.0.0.0/8", allowed))) == BODY


def test_a_network_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"REPARTEE_DOWNLOAD_HOSTS: '10.0.0.0/33' is no network"):
        Reach(public_only=True, allowed=("files.example.org", "10.0.0.0/33")).check()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_may_have_a_private_address_with_or_without_its_scheme(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The HTTP client accepts a proxy without its scheme; the peer is the proxy then, too."""
    monkeypatch.setenv("http_proxy", server.root.replace("http://", scheme))
    server.answers = [complete]
    address = "http://no.such.host.invalid/x.zip"
    assert get(address, tmp_path, reach=Reach(public_only=True)) == BODY
    assert [call.path for call in server.calls] == [address]


def test_a_host_that_needs_no_proxy_is_no_proxy(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", server.root)
    with (
        RequestGuard(Reach(public_only=True)) as guard,
        pytest.raises(PermanentError, match="loopback"),
        socket.create_connection(server.listener.getsockname()) as wire,
    ):
        guard.trace("connection.connect_tcp.started", {"host": "127.0.0.1"})
        guard.trace("connection.connect_tcp.complete", {"return_value": Stream(wire)})


def test_user_and_password_of_a_host_come_from_netrc_and_go_to_no_other(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login me password pw\ndefault login you password no\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    url = server.root.replace("127.0.0.1", "localhost")
    server.answers = [status(302, Location=server.root + "/b"), complete]
    assert get(url + "/a", tmp_path) == BODY
    assert server.calls[0].headers["authorization"] == "Basic bWU6cHc="
    assert "authorization" not in server.calls[1].headers


def test_the_client_logs_no_address(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [complete]
    with caplog.at_level(logging.INFO):
        get(server.root + "/x.zip?token=s3cr3t", tmp_path)
    assert server.calls[0].path == "/x.zip?token=s3cr3t"
    assert "s3cr3t" not in caplog.text
