"""Network: who is connected to on the way to a file, and how a failure is told from a refusal."""

import contextlib
import ipaddress
import socket
import threading
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2


class Again(Exception):
    """A failure that may pass."""

    def __init__(self, reason: str, *, wait_s: float = 0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.unreachable = unreachable


class Refused(Exception):
    """A failure that will not pass: this address is of no use."""


class Watch:
    """Watches one request through its redirects: whom it connects to, and that it ends in time."""

    def __init__(self) -> None:
        self._first: str | None = None  # zone of the address that the user gave
        self._scheme = ""
        self._asked = ""
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._late_s: float | None = None
        self._proxies = {urlsplit(proxy).hostname for proxy in getproxies().values()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def arm(self, seconds: float) -> None:
        """Cut the connection after so long: a server that drips never runs into a read timeout."""
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(max(0.0, seconds), self._cut, [seconds])
        self._timer.daemon = True
        self._timer.start()

    def _cut(self, seconds: float) -> None:
        self._late_s = seconds
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own shutdown: it pulls the TLS state from under the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def again(self, error: httpx2.TransportError) -> Again:
        """The failure of a connection in a few words."""
        if self._late_s is not None:
            return Again(f"not done within {self._late_s:.3g} s")
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        refused = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        return Again(reason, unreachable=refused and "CERTIFICATE" not in reason)

    def admit_url(self, url: httpx2.URL) -> None:
        """Refuse what is not http(s), gives up encryption, or names an address inside."""
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused(f"{url.scheme or 'no'}: is not http or https")
        if self._scheme == "https" and url.scheme == "http":
            raise Refused("redirected from https to http")
        self._scheme = url.scheme
        with contextlib.suppress(ValueError):  # most hosts are names, seen again once they are connected to
            self.admit(url.host)

    def admit(self, address: str) -> None:
        """A redirect may lead out, or stay in the zone where the user's own address is."""
        reached = zone(address)
        if self._first is None:
            self._first = reached
        elif reached not in ("public", self._first):
            raise Refused(f"redirected to the {reached} address {address}")

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The client's own report; the peer's true address, so no trick with names helps."""
        if event == "connection.connect_tcp.started":
            self._asked = info["host"]
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream = info["return_value"]
        self._socket = stream.get_extra_info("socket")
        if self._asked in self._proxies:
            self._first = self._first or "public"
        elif event.endswith("connect_tcp.complete"):
            self.admit(stream.get_extra_info("server_addr")[0])
        if self._late_s is not None:
            raise Again(f"not done within {self._late_s:.3g} s")


def zone(address: str) -> str:
    """Raises ValueError for what is not an IP address."""
    ip: Any = ipaddress.ip_address(address.split("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    return "public" if ip.is_global else "private"
