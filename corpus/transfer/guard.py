"""Guard: decides which hosts a download may reach, when it must end, and which errors are transient.

An address can direct a download to an internal service of the local machine or network, whether directly,
through a redirect or through DNS (server-side request forgery). Therefore the IP address of every
host to which a download connects is checked.
"""

import contextlib
import ipaddress
import logging
import socket
import threading
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from models.addresses import redact_corpus
from models.errors import InputError

log = logging.getLogger(__name__)

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The prefix of IPv6 addresses that stand for IPv4 addresses (section 2.1 of RFC 6052)."""


class TransientError(Exception):
    """An error that another attempt may avoid.

    `wait_s` is the number of seconds that the server asks the client to wait. `unreachable` is True if no
    connection was made at all.
    """

    def __init__(self, reason: str, *, wait_s: float = 0, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.unreachable = unreachable


class PermanentError(Exception):
    """An error that will occur in every attempt, so the address cannot be used.

    `status` is the HTTP status that the server has sent, or 0. `code` is the cause in the words of the
    server's interface, or "".
    """

    def __init__(self, reason: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Reach:
    """The hosts to which a download may connect."""

    public_only: bool = False
    """If True, only public addresses are allowed. If False, the address that the user gave may be in any zone
    (see `zone`), and redirects may lead to public addresses and to that zone."""
    allowed: tuple[str, ...] = ()
    """Hosts and networks that are always allowed."""

    def allows(self, host: str, address: str = "") -> bool:
        """Whether the host name or the IP address is covered by an entry of `allowed`."""
        if host.lower() in {name.lower() for name in self.allowed}:
            return True
        ip = _effective_ip(address or host)
        return ip is not None and any(
            ip in network for network in map(_parse_network, self.allowed) if network
        )

    def check(self) -> None:
        """Check the entries of `allowed`.

        Raises:
            InputError: an entry is neither a host nor a network.
        """
        for name in self.allowed:
            if "/" in name and _parse_network(name) is None:
                raise InputError(
                    f"REPARTEE_DOWNLOAD_HOSTS: {name!r} is not a network: give hosts, addresses and networks "
                    "such as 10.0.0.0/8, separated by commas"
                )


ANYWHERE = Reach()


class RequestGuard:
    """Guards a request and its redirects: checks every host that they reach, and enforces a deadline."""

    def __init__(self, reach: Reach = ANYWHERE) -> None:
        """
        Raises:
            PermanentError: an environment variable gives an invalid address for a proxy.
        """
        self._reach = reach
        self._first_zone: str | None = None  # the zone of the address that the user gave
        self._scheme = ""
        self._requested_host = ""
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._missed_deadline_s: float | None = None
        self._proxies = _proxy_hosts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def set_deadline(self, seconds: float) -> None:
        """Shut the connection down after this many seconds (the read timeout never ends a slow stream)."""
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(max(0.0, seconds), self._shut_down_socket, [seconds])
        self._timer.daemon = True
        self._timer.start()

    def _shut_down_socket(self, seconds: float) -> None:
        self._missed_deadline_s = seconds
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown would remove the TLS state that the reading thread is using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def transient_error(self, error: httpx2.TransportError) -> TransientError:
        """The error for a failed connection, with a short reason."""
        if self._missed_deadline_s is not None:
            return TransientError(f"not finished within {self._missed_deadline_s:.3g} s")
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        failed_to_connect = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
        return TransientError(reason, unreachable=failed_to_connect and "CERTIFICATE" not in reason)

    def check_url(self, url: httpx2.URL) -> None:
        """Check an address before the request for it is sent.

        Raises:
            PermanentError: the address is not http(s), is not allowed, or downgrades https to http.
        """
        if url.scheme not in ("http", "https") or not url.host:
            raise PermanentError(
                f"the address is not http(s)://HOST/... (its scheme is {url.scheme or 'missing'})"
            )
        if self._scheme == "https" and url.scheme == "http":
            raise PermanentError("redirected from https to http")
        self._scheme = url.scheme
        for address in self._addresses_before_connecting(url.host):
            self.check_address(address, url.host)

    def _addresses_before_connecting(self, host: str) -> set[str]:
        """The IP addresses of the host that can be determined before connecting."""
        if _effective_ip(host) is not None:
            return {host}
        if not self._reach.public_only:
            return set()
        try:
            return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError):
            return set()  # a proxy may be able to resolve the name; without a proxy, connecting fails

    def check_address(self, address: str, host: str = "") -> None:
        """Check an IP address. A redirect may lead only to a public address or to the first address's zone.

        Raises:
            PermanentError: the address is not allowed.
        """
        reached_zone = zone(address)
        if self._reach.public_only and reached_zone != "public" and not self._reach.allows(host, address):
            raise PermanentError(
                f"{host or address} is a {reached_zone} address, which a deployed run may not read; to allow "
                "it, add the host to REPARTEE_DOWNLOAD_HOSTS"
            )
        if self._first_zone is None:
            self._first_zone = reached_zone
        elif reached_zone not in ("public", self._first_zone) and not self._reach.allows(host, address):
            raise PermanentError(f"redirected to the {reached_zone} address {address}")

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Check the IP address that the HTTP client has connected to; a host name may resolve to any address.

        Raises:
            PermanentError: the address is not allowed.
            TransientError: the deadline has passed.
        """
        if event == "connection.connect_tcp.started":
            self._requested_host = info["host"]
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        stream = info["return_value"]
        self._socket = stream.get_extra_info("socket")
        if self._requested_host in self._proxies:
            # The peer is the proxy, which may be in any zone and connects to the host on our behalf.
            self._first_zone = self._first_zone or "public"
        elif event.endswith("connect_tcp.complete"):
            self.check_address(stream.get_extra_info("server_addr")[0], self._requested_host)
        if self._missed_deadline_s is not None:
            raise TransientError(f"not finished within {self._missed_deadline_s:.3g} s")


def zone(address: str) -> str:
    """The part of the network to which an IP address belongs: loopback, link-local, private or public.

    Raises:
        ValueError: the text is not an IP address.
    """
    ip = _effective_ip(address)
    if ip is None:
        raise ValueError(f"{address!r} is not an IP address")
    if ip.is_loopback or ip.is_unspecified:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    return "public" if ip.is_global and not ip.is_multicast else "private"


def _effective_ip(address: str) -> Any:
    """The IP address, or the IPv4 address that it embeds (mapped, 6to4, NAT64); None for a host name."""
    try:
        ip: Any = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return None
    if ip.version == 6 and ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None) or ip


def _proxy_hosts() -> set[str | None]:
    """The hosts of the proxies that the HTTP client reads from environment variables.

    Addresses of proxies without a scheme are accepted here, because the client accepts them, too.

    Raises:
        PermanentError: the address of a proxy is invalid.
    """
    configured = getproxies()
    proxies = [configured[scheme] for scheme in ("http", "https", "all") if configured.get(scheme)]
    hosts = set()
    for proxy in proxies:
        try:
            hosts.add(urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname)
        except ValueError:
            reason = f"the proxy {redact_corpus(proxy)} in the environment variables is not a valid address"
            raise PermanentError(reason) from None
    return hosts


def _parse_network(name: str) -> Any:
    """The network, or a single address as a network of one address; None for a host name."""
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None


def silence_request_log() -> None:
    """Keep the HTTP client from logging whole addresses, which may hold secrets."""
    logger = logging.getLogger("httpx2")
    if logger.level < logging.WARNING:
        logger.setLevel(logging.WARNING)
