"""Tests of mirrors, retries and earlier copies. The server breaks real connections on real sockets."""

import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
from fault_server import BODY, OTHER, QUICK, Call, FaultServer, closed_port, complete, get, status, until
from filelock import FileLock

from corpus.transfer.guard import PermanentError, TransientError
from corpus.transfer.http import fetch, request_headers
from corpus.transfer.limits import Limits
from models.addresses import redact_corpus
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


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
    assert time.monotonic() - started_s >= 1


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


def test_offline_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^offline: could not reach 127.0.0.1 \(.*\); download the zip manually"
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
    """Without a lock, both processes would write to one NAME.part, and the first to end would rename it."""
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
