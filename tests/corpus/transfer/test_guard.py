"""Tests of the hosts to which a download may connect. The server uses real sockets."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fault_server import BODY, FaultServer, complete, get, status

from corpus.transfer.guard import PermanentError, Reach, RequestGuard, zone
from models.errors import InputError


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("file:///etc/passwd", "its scheme is file"),
        ("ftp://127.0.0.1/x", "its scheme is ftp"),
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
    """A connected socket with the interface of the stream that the HTTP client reports."""

    wire: socket.socket

    def get_extra_info(self, name: str) -> object:
        return {"socket": self.wire, "server_addr": self.wire.getpeername()}[name]


def test_the_address_of_the_peer_is_checked_and_not_its_name(server: FaultServer, tmp_path: Path) -> None:
    """A public name may resolve to this machine. Then the connection is dropped before any request."""
    with RequestGuard() as guard, pytest.raises(PermanentError, match="loopback"):
        guard.check_address("8.8.8.8")
        with socket.create_connection(server.listener.getsockname()) as wire:
            guard.trace("connection.connect_tcp.started", {"host": "public.example"})
            guard.trace("connection.connect_tcp.complete", {"return_value": Stream(wire)})
    assert server.calls == []


def test_an_ip_address_has_one_zone() -> None:
    assert zone("1.1.1.1") == zone("2606:4700::1111") == "public"
    assert zone("100.64.0.1") == zone("fd00::1") == "private"


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
    """A name server may give a public address first and a private one later, so the peer is checked, too."""
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
    with pytest.raises(InputError, match=r"REPARTEE_DOWNLOAD_HOSTS: '10.0.0.0/33' is not a network"):
        Reach(public_only=True, allowed=("files.example.org", "10.0.0.0/33")).check()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_may_have_a_private_address_with_or_without_its_scheme(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """The HTTP client also accepts a proxy's address without a scheme, and then connects to the proxy."""
    monkeypatch.setenv("http_proxy", server.root.replace("http://", scheme))
    server.answers = [complete]
    address = "http://no.such.host.invalid/x.zip"
    assert get(address, tmp_path, reach=Reach(public_only=True)) == BODY
    assert [call.path for call in server.calls] == [address]


@pytest.mark.parametrize("proxy", ["http://[::1:3128", "[::1:3128"])
def test_a_malformed_proxy_is_one_line(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(
        InputError, match=r"\(the proxy .*\[::1:3128.* in the environment variables is not a valid address\)"
    ):
        get(server.root, tmp_path)


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
