"""Fixtures with a hub on this machine, and with what downloads from it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub, hub_server

from corpus import source
from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.layout import stored_files

TURN = '{"messages": [{"role": "user", "content": "%s?"}, {"role": "assistant", "content": "Yes."}]}\n'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(source, "IDENTITY_CACHE_S", -1)
    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        yield server


@pytest.fixture
def download(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Downloads a corpus to the same home each time, and returns the texts of its files by name."""

    def run(corpus: str) -> dict[str, str]:
        config = DownloadConfig(corpus=corpus)
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        download_corpus(out, config, corpus=find_corpus(config, tmp_path / "home"))
        return {name: path.read_text() for name, path in stored_files(out).items()}

    return run
