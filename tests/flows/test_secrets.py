"""A token in an address appears only in the request: the test searches everything that a run leaves
behind."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corpus.sample.generator import write_corpus

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-0f-1000"
TINY = ["download.sample_turns=3000", "vocabulary.size=600", "network.n_layer=2", "network.width=32"]
TINY += ["train.max_steps=8", "evaluate.sample_replies=10"]
pytestmark = pytest.mark.soak


@pytest.fixture
def address(tmp_path):
    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    requests = []
    (tmp_path / "raw").mkdir()
    (tmp_path / "served").mkdir()
    write_corpus(tmp_path / "raw", turns=3000, seed=0)
    with zipfile.ZipFile(tmp_path / "served" / "films.zip", "w") as archive:
        for path in (tmp_path / "raw").iterdir():
            archive.write(path, path.name)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=tmp_path / "served")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/films.zip"
        server.shutdown()
    assert any(SECRET in path for path in requests)


def test_a_token_in_an_address_is_left_nowhere(address, tmp_path):
    home = tmp_path / "home"
    changes = [word for change in TINY for word in ("--set", change)]
    words = [
        sys.executable,
        "-m",
        "cli",
        "run",
        "--recipe",
        "quick",
        "--corpus",
        f"{address}?token={SECRET}",
    ]
    names = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [*words, *changes, "--json"],
        cwd=ROOT,
        env={**env, "REPARTEE_HOME": str(home), "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "promoted"
    assert SECRET not in done.stdout + done.stderr
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"mlflow.db", "prefect.db", "README.md"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes() or SECRET in str(path)]
