"""A file server on real sockets that can break connections, and helpers that download from it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from corpus.transfer.http import fetch
from corpus.transfer.limits import Limits

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
        """Send a response like a server that supports Range and If-Range."""
        start = self.start()
        if start is None or self.headers["if-range"] != etag:
            self.send(200, body, ETag=etag)
        else:
            content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send(206, body[start:], ETag=etag, Content_Range=content_range)


@dataclass
class FaultServer:
    """Answers the n-th request with the n-th of `answers`, and any further request with the last of them."""

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
            with contextlib.suppress(OSError):  # some tests expect the client to close the connection
                self.answers[min(len(self.calls), len(self.answers)) - 1](call)


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


OTHER = BODY[:4] + BODY[:3:-1]  # as long as BODY, but different


def drip(call: Call, head: bytes, drop: bytes) -> None:
    call.wire.sendall(head)
    while True:
        call.wire.sendall(drop)
        time.sleep(0.02)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/x.zip"
