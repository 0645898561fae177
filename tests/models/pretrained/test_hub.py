"""Tests of starts from the Hugging Face hub, which a local server replaces."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models.errors import InputError
from models.network import networks
from models.pretrained.source import StartConfig, take_start
from models.registry.versions import Registry
from tasks.start import resolve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def registry(tmp_path):
    return Registry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts", "repartee", "repartee")


@pytest.fixture
def hub(pretrained, tmp_path, monkeypatch):
    """A hub whose model org/tiny also has a pickle and an ONNX folder; yields the requested paths."""
    folder = pretrained(tmp_path / "theirs")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    requests = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            path = self.path.partition("?")[0]
            if path in ("/api/models/org/tiny", f"/api/models/org/tiny/revision/{COMMIT}"):
                self.answer(200, json.dumps(listing).encode(), "application/json")
            elif path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
                self.answer(200, json.dumps(tree).encode(), "application/json")
            elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
                self.answer(200, files[path.split(COMMIT + "/")[1]], "application/octet-stream")
            else:
                self.answer(404, b"{}", "application/json", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def answer(self, status, content, kind, more=None):
            self.send_response(status)
            tag = hashlib.sha256(content).hexdigest()
            for name, value in {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, **(more or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    listing = {
        "_id": "1",
        "id": "org/tiny",
        "sha": COMMIT,
        "siblings": [{"rfilename": name} for name in files],
    }
    tree = [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in files.items()
    ]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    yield requests
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_a_start_known_by_its_commit(hub, registry, tmp_path):
    source = resolve("org/tiny", registry, tmp_path)
    assert source.identity == f"hub:org/tiny@{COMMIT}"
    out = tmp_path / "out"
    out.mkdir()
    num_files = take_start(out, StartConfig(init="org/tiny"), source=source)
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} | {
        "chat_template.jinja",
        "logs",
    }
    assert num_files == len(names) - 1
    assert networks.load(out).num_parameters() == networks.load(tmp_path / "theirs").num_parameters()
    assert not any(".bin" in path or "onnx" in path for path in hub if "resolve" in path)


def test_what_the_hub_does_not_have_gets_one_line(hub, registry, tmp_path):
    with pytest.raises(InputError, match="the hub has no public model of this name; give a") as message:
        resolve("org/missing", registry, tmp_path)
    assert "\n" not in str(message.value)


def test_without_a_network_one_line_says_so(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"the request to the hub failed \(.*\); give a model folder"
    ) as message:
        resolve("org/tiny", registry, tmp_path)
    assert "\n" not in str(message.value)
