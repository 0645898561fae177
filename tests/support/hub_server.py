"""A server with the public HTTP interface of the Hugging Face hub, and the host that stores its large files.

Both listen on this machine. A file of LARGE_BYTES or more is stored on the second host, to which the hub
redirects, as the real one does for files in LFS.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 1000


@dataclass
class DataSet:
    """A data set: its files by commit and path, the newest commit last."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    is_private: bool = False
    is_gated: bool = False


@dataclass
class Request:
    host: str
    """`hub` or `storage`."""
    path: str
    token: str | None


@dataclass
class Hub:
    """What the server has, and what it was asked for."""

    data_sets: dict[str, DataSet] = field(default_factory=dict)
    token: str = "hf_s3cr3t"
    requests: list[Request] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    """Statuses for the next requests, the first one first."""
    is_down: bool = False
    """If True, the connection is closed without a response."""
    damaged: set[str] = field(default_factory=set)
    """Paths of files that are sent with other bytes than those of the listing."""
    lists_blobs: bool = True
    root: str = ""
    storage: str = ""

    def publish(
        self, name: str, files: Mapping[str, bytes | str], card: dict[str, Any] | None = None, **more: bool
    ) -> str:
        """Add a commit to a data set; return the id of the commit."""
        contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
        data_set = self.data_sets.setdefault(name, DataSet())
        commit = hashlib.sha1(f"{name}{len(data_set.commits)}".encode()).hexdigest()
        data_set.commits[commit] = contents
        data_set.card = card or {}
        for flag, value in more.items():
            setattr(data_set, flag, value)
        return commit

    def requested(self, word: str = "") -> list[str]:
        return [request.path for request in self.requests if word in request.path]


class _Answer(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        hub: Hub = self.server.hub
        login = self.headers.get("Authorization")
        path = unquote(urlsplit(self.path).path)
        hub.requests.append(Request(self.server.name, path, login))
        if hub.is_down:
            self.close_connection = True
        elif hub.failures:
            self.send(hub.failures.pop(0))
        elif self.server.name == "storage":
            self.send(200, self.server.files[path])
        else:
            self.answer(hub, path, login)

    do_HEAD = do_GET

    def answer(self, hub: Hub, path: str, login: str | None) -> None:
        is_api = path.startswith("/api/datasets/")
        owner, name, *rest = path.removeprefix("/api").removeprefix("/datasets/").split("/")
        data_set = hub.data_sets.get(f"{owner}/{name}")
        if login and login != f"Bearer {hub.token}":
            return self.send(401, X_Error_Message="Invalid credentials in Authorization header")
        if data_set is None or (data_set.is_private and not login):
            return self.send(404 if login else 401, X_Error_Code="RepoNotFound")
        if not is_api and data_set.is_gated and not login:
            return self.send(401, X_Error_Code="GatedRepo")
        # .../revision/REVISION of the interface, .../resolve/COMMIT/PATH of a file
        revision = ("/".join(rest[1:]) if is_api else rest[1]) if rest else "main"
        commit = (
            list(data_set.commits)[-1] if revision == "main" else data_set.branches.get(revision, revision)
        )
        if commit not in data_set.commits:
            return self.send(404, X_Error_Code="RevisionNotFound")
        files = data_set.commits[commit]
        if is_api:
            return self.send(200, json.dumps(self.listing(hub, data_set, commit, files)).encode())
        return self.send_file(hub, "/".join(rest[2:]), files)

    def send_file(self, hub: Hub, path: str, files: Mapping[str, bytes]) -> None:
        data = files[path]
        if path in hub.damaged:
            data = bytes(reversed(data))
        if len(data) < LARGE_BYTES:
            return self.send(200, data)
        key = f"/{hashlib.sha256(data).hexdigest()}"
        self.server.storage.files[key] = data
        return self.send(302, Location=f"{hub.storage}{key}?signature=s1gned")

    @staticmethod
    def listing(hub: Hub, data_set: DataSet, commit: str, files: Mapping[str, bytes]) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for path, data in files.items():
            large = {
                "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            }
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            facts = {"size": len(data), "blobId": blob, **(large if len(data) >= LARGE_BYTES else {})}
            siblings.append({"rfilename": path, **(facts if hub.lists_blobs else {})})
        return {
            "id": "org/talk",
            "sha": commit,
            "siblings": siblings,
            "cardData": data_set.card,
            "gated": data_set.is_gated,
        }

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        if status == 200:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that listens at `root` until the end of the context."""
    hub = Hub()
    servers: dict[str, Any] = {}
    for name in ("hub", "storage"):
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
        server.hub, server.name, server.files = hub, name, {}
        servers[name] = server
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    servers["hub"].storage = servers["storage"]
    hub.root = f"http://127.0.0.1:{servers['hub'].server_port}"
    hub.storage = f"http://localhost:{servers['storage'].server_port}"
    try:
        yield hub
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
