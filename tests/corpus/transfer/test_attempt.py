"""Tests of a single attempt at a download. The server breaks real connections on real sockets."""

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from fault_server import BODY, OTHER, Call, FaultServer, complete, cut, drip, get, status

from corpus.transfer.limits import Limits
from models.errors import InputError

HANG_S = 60  # the server never ends its response, so a client without a deadline exceeds this time


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
    with pytest.raises(InputError, match=r"slower than 1000 bytes/s|not finished within"):
        get(server.root, tmp_path, limits)
    assert time.monotonic() - started_s < HANG_S


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
    with pytest.raises(InputError, match="the encoding 'gzip'"):
        get(server.root, tmp_path)


def test_the_client_logs_no_address(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [complete]
    with caplog.at_level(logging.INFO):
        get(server.root + "/x.zip?token=s3cr3t", tmp_path)
    assert server.calls[0].path == "/x.zip?token=s3cr3t"
    assert "s3cr3t" not in caplog.text
