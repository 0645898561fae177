"""A server with those parts of the interfaces of Amazon S3 and Google Cloud Storage that reading needs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

GOOGLE = "/storage/v1/b/"
PAGE = 2  # objects in an answer, so that a listing takes several requests


@dataclass
class Object:
    data: bytes
    changed_s: int

    @property
    def changed(self) -> datetime:
        return datetime.fromtimestamp(self.changed_s, UTC)


@dataclass
class Bucket:
    """What the server has, and what it was asked for."""

    name: str
    objects: dict[str, Object] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """The method and the path of each request."""
    status: int = 0
    """If not 0, each answer has this status."""
    cut: set[str] = field(default_factory=set)
    """The names of objects of which only the first half is sent."""
    root: str = ""

    def put(self, name: str, data: str, changed_s: int = 1_700_000_000) -> None:
        self.objects[name] = Object(data.encode(), changed_s)

    def read(self, name: str) -> list[str]:
        """The requests for the content of an object."""
        return [each for each in self.requests if each.startswith("GET") and each.endswith(name)]


class _Answer(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        bucket: Bucket = self.server.bucket
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), {key: each[0] for key, each in parse_qs(parts.query).items()}
        bucket.requests.append(f"{self.command} {path}")
        if bucket.status:
            self.send(bucket.status)
        elif path.startswith(GOOGLE):
            self.answer_as_google(bucket, path.removeprefix(GOOGLE), query)
        else:
            self.answer_as_amazon(bucket, path.strip("/"), query)

    do_HEAD = do_GET

    def answer_as_amazon(self, bucket: Bucket, path: str, query: dict[str, str]) -> None:
        name, _, key = path.partition("/")
        if name != bucket.name:
            self.send(404, b"<Error><Code>NoSuchBucket</Code><Message>No.</Message></Error>")
        elif not key:
            self.send(200, self.listing_of_amazon(bucket, query))
        elif found := bucket.objects.get(key):
            self.send_object(bucket, key, found)
        else:
            self.send(404, b"<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>")

    def listing_of_amazon(self, bucket: Bucket, query: dict[str, str]) -> bytes:
        page, following = self.page(bucket, query.get("prefix", ""), query.get("continuation-token", ""))
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{found.changed:%Y-%m-%dT%H:%M:%S.000Z}"
            f"</LastModified><Size>{len(found.data)}</Size></Contents>"
            for name, found in page
        )
        more = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
            f"<Name>{bucket.name}</Name><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{more}{contents}</ListBucketResult>"
        ).encode()

    def answer_as_google(self, bucket: Bucket, path: str, query: dict[str, str]) -> None:
        name, _, rest = path.partition("/")
        key = rest.removeprefix("o").removeprefix("/")
        if name != bucket.name or (key and key not in bucket.objects):
            self.send(404, b'{"error": {"code": 404, "message": "Not Found"}}')
        elif not key:
            page, following = self.page(bucket, query.get("prefix", ""), query.get("pageToken", ""))
            items = [self.described(bucket, each, found) for each, found in page]
            self.send(200, json.dumps({"items": items, "nextPageToken": following}).encode())
        elif query.get("alt") == "media":
            self.send_object(bucket, key, bucket.objects[key])
        else:
            self.send(200, json.dumps(self.described(bucket, key, bucket.objects[key])).encode())

    def described(self, bucket: Bucket, name: str, found: Object) -> dict[str, str]:
        changed = f"{found.changed:%Y-%m-%dT%H:%M:%S.000Z}"
        return {"name": name, "bucket": bucket.name, "size": str(len(found.data)), "updated": changed}

    def page(self, bucket: Bucket, prefix: str, after: str) -> tuple[list[tuple[str, Object]], str]:
        """Some objects whose names begin with the prefix, and the name after which the next page begins."""
        found = sorted(each for each in bucket.objects.items() if each[0].startswith(prefix))
        rest = [each for each in found if each[0] > after]
        return rest[:PAGE], rest[PAGE - 1][0] if len(rest) > PAGE else ""

    def send_object(self, bucket: Bucket, name: str, found: Object) -> None:
        data = found.data[: len(found.data) // 2] if name in bucket.cut else found.data
        self.send(200, data, found.changed.strftime("%a, %d %b %Y %H:%M:%S GMT"))

    def send(self, status: int, body: bytes = b"", changed: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if changed:
            self.send_header("Last-Modified", changed)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def bucket_server(name: str) -> Iterator[Bucket]:
    """A bucket on this machine; `root` is the address of its server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.bucket = Bucket(name, root=f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.bucket  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
