"""The download stage notices by the headers or the bytes that an address has a new corpus, and it survives
outages."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corpus import source
from corpus.download import DownloadConfig, find_corpus
from corpus.layout import MEMBERS
from models.errors import InputError
from tasks import download as stages
from tasks.store.artifact import Artifact


class Files(ThreadingHTTPServer):
    """Serves one zip file at every path; a test can set its content, its headers and its refusals."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.text, self.has_etag, self.refuses_head, self.away = "one", True, False, False
        self.calls: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/films.zip"


class Answer(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in MEMBERS:
                archive.writestr(zipfile.ZipInfo(name), self.server.text)
        body = packed.getvalue()
        self.server.calls.append(f"{self.command} {self.path}")
        if self.server.away or (self.command == "HEAD" and self.server.refuses_head):
            self.send_error(503 if self.server.away else 405)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.has_etag:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(source, "IDENTITY_CACHE_S", -1)
    monkeypatch.setattr("corpus.transfer.http.Limits.tries", 1)
    with Files() as it:
        threading.Thread(target=it.serve_forever, daemon=True).start()
        yield it
        it.shutdown()


def download(server: Files, home: Path, query: str = "") -> Artifact:
    config = DownloadConfig(corpus=server.url + query)
    corpus = find_corpus(config, home)
    return stages.download.run(home, config, {}, identity=corpus.identity, context={"corpus": corpus})


def text(artifact: Artifact) -> str:
    return (artifact.path / MEMBERS[0]).read_text()


@pytest.mark.parametrize("refuses_head", [False, True], ids=["", "HEAD refused"])
@pytest.mark.parametrize("has_etag", [True, False], ids=["ETag", "no validator"])
def test_a_corpus_that_has_changed_is_downloaded_again_and_the_same_is_not(
    server: Files, tmp_path: Path, has_etag: bool, refuses_head: bool
) -> None:
    server.has_etag, server.refuses_head = has_etag, refuses_head
    first, again = download(server, tmp_path), download(server, tmp_path)
    assert (first.status, again.status) == ("ran", "reused")
    server.text = "two"  # of the same length
    assert text(download(server, tmp_path)) == "two"
    server.text = "one"
    assert text(download(server, tmp_path)) == "one"


@pytest.mark.parametrize("has_etag", [True, False], ids=["ETag", "no validator"])
def test_in_an_outage_the_newest_copy_is_the_corpus(
    server: Files, tmp_path: Path, has_etag: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.has_etag = has_etag
    for content in ("one", "two", "six"):
        server.text, server.away = content, False
        here = download(server, tmp_path)
        server.away = True
        there = download(server, tmp_path)
        assert text(here) == text(there) == content
        assert (there.status, there.fingerprint) == ("reused", here.fingerprint)
    assert caplog.text.count("the copy downloaded earlier is used") == 3


def test_the_copy_serves_where_the_output_is_gone_or_the_code_has_changed(
    server: Files, tmp_path: Path
) -> None:
    made = download(server, tmp_path)
    (made.path / MEMBERS[0]).write_text("damaged")
    calls = len(server.calls)
    assert text(download(server, tmp_path)) == "one"
    assert server.calls[calls:] == ["HEAD /films.zip"]


def test_a_copy_that_is_damaged_is_downloaded_again(server: Files, tmp_path: Path) -> None:
    made = download(server, tmp_path)
    (made.path / MEMBERS[0]).write_text("damaged")
    (copy,) = (tmp_path / "store" / "download" / ".partial").glob("films-????????")
    copy.write_bytes(b"PK" + copy.read_bytes()[:-9])
    assert text(download(server, tmp_path)) == "one"


def test_an_address_that_cannot_be_reached_is_asked_once_and_told_in_one_line(
    server: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"^offline: could not reach 127.0.0.1 .*--corpus PATH$"):
        download(server, tmp_path)
    assert not caplog.records


def test_what_a_server_has_said_holds_for_a_minute(
    server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "IDENTITY_CACHE_S", 60)
    server.has_etag = False
    config = DownloadConfig(corpus=server.url)
    find_corpus(config, tmp_path)
    corpus = find_corpus(config, tmp_path)
    made = stages.download.run(tmp_path, config, {}, identity=corpus.identity, context={"corpus": corpus})
    assert text(made) == "one"
    assert server.calls == ["HEAD /films.zip", "GET /films.zip", "GET /films.zip"]


def test_two_addresses_with_one_name_have_two_copies(server: Files, tmp_path: Path) -> None:
    download(server, tmp_path)
    url, server.url = server.url, server.url.replace("films", "other/films")
    server.text = "two"
    download(server, tmp_path)
    server.url, server.away = url, True
    assert text(download(server, tmp_path)) == "one"


def test_a_token_is_requested_and_written_nowhere(
    server: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = download(server, tmp_path, "?token=s3cr3t#f")
    assert server.calls == ["HEAD /films.zip?token=s3cr3t", "GET /films.zip?token=s3cr3t"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made.path / "manifest.json" in files
    assert not [path for path in files if b"s3cr3t" in path.read_bytes() or "s3cr3t" in str(path)]
    assert "s3cr3t" not in caplog.text
