"""Objects in a bucket are a corpus: they are listed, downloaded if they are new, and read like a folder."""

import gzip
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucket_server import Bucket, bucket_server

from corpus import source
from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.layout import stored_files
from corpus.mix import read_mix
from corpus.object_store import file_system
from corpus.object_store.address import name_of, read_address
from corpus.source import resolve
from corpus.transfer.addresses import FORM_PATTERN
from models.errors import InputError

Download = Callable[[str], dict[str, str]]
TURN = '{"messages": [{"role": "user", "content": "%s?"}, {"role": "assistant", "content": "Yes."}]}\n'
BREAD, CAKE, PIE = TURN % "Bread", TURN % "Cake", TURN % "Pie"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bucket]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", *file_system.S3_ENDPOINTS, *file_system.REGIONS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(source, "IDENTITY_CACHE_S", -1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cr3t")
    with bucket_server("talk") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.root)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.root)
        yield server


@pytest.fixture
def download(tmp_path: Path) -> Download:
    """Downloads a corpus to the same home each time, and returns the texts of its files by name."""

    def run(corpus: str) -> dict[str, str]:
        config = DownloadConfig(corpus=corpus)
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        download_corpus(out, config, corpus=find_corpus(config, tmp_path / "home"))
        return {name: path.read_text() for name, path in stored_files(out).items()}

    return run


def refusal(download: Download, corpus: str) -> str:
    with pytest.raises(InputError) as error:
        download(corpus)
    assert "\n" not in str(error.value) and "s3cr3t" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_all_files_with_data_below_the_address_are_read(
    bucket: Bucket, download: Download, scheme: str
) -> None:
    for name in ("2025/a.jsonl", "2025/more/b.jsonl", "2026/c.jsonl"):
        bucket.put(f"chats/{name}", BREAD)
    for name in ("chats/2025/README.md", "chats/2025/_SUCCESS", "chats/2025/.hidden.jsonl", "other/d.jsonl"):
        bucket.put(name, CAKE)
    assert download(f"{scheme}://talk/chats/2025") == {"a.jsonl": BREAD, "b.jsonl": BREAD}
    assert len(download(f"{scheme}://talk/chats/")) == 3
    assert len(download(f"{scheme}://talk")) == 4


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_single_object_is_read_also_if_its_name_has_blanks_and_no_ascii(
    bucket: Bucket, download: Download, scheme: str
) -> None:
    bucket.put("chats/größe 1.jsonl", BREAD)
    assert download(f"{scheme}://talk/chats/größe 1.jsonl") == {"größe 1.jsonl": BREAD}


def test_an_object_that_has_changed_is_downloaded_again_and_no_other(
    bucket: Bucket, download: Download
) -> None:
    bucket.put("chats/a.jsonl", BREAD)
    bucket.put("chats/b.jsonl", CAKE)
    assert download("s3://talk/chats") == {"a.jsonl": BREAD, "b.jsonl": CAKE}
    bucket.put("chats/b.jsonl", PIE, changed_s=1_700_000_001)
    bucket.put("chats/c.jsonl", CAKE)
    assert download("s3://talk/chats") == {"a.jsonl": BREAD, "b.jsonl": PIE, "c.jsonl": CAKE}
    assert [len(bucket.read(f"{name}.jsonl")) for name in "abc"] == [1, 2, 1]
    del bucket.objects["chats/a.jsonl"]
    assert download("s3://talk/chats") == {"b.jsonl": PIE, "c.jsonl": CAKE}
    assert [len(bucket.read(f"{name}.jsonl")) for name in "abc"] == [1, 2, 1]


def test_the_identity_changes_with_the_objects_alone(bucket: Bucket, tmp_path: Path) -> None:
    def identity() -> str:
        return find_corpus(DownloadConfig(corpus="s3://talk/chats"), tmp_path).identity

    bucket.put("chats/a.jsonl", BREAD)
    first = identity()
    bucket.put("other/a.jsonl", BREAD)
    bucket.put("chats/notes.md", "Some notes.")
    assert identity() == first
    bucket.put("chats/a.jsonl", BREAD, changed_s=1_700_000_001)
    assert identity() != first


def test_without_the_store_the_copy_is_used_with_a_warning(
    bucket: Bucket, download: Download, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("chats/a.jsonl", BREAD)
    bucket.status = 503
    assert "the object store cannot be reached" in refusal(download, "s3://talk/chats")
    bucket.status = 0
    assert download("s3://talk/chats") == {"a.jsonl": BREAD}
    bucket.status = 503
    assert download("s3://talk/chats") == {"a.jsonl": BREAD}
    assert "the copy downloaded earlier is used" in caplog.text


def test_a_refusal_names_the_remedy_and_the_copy_is_not_used(bucket: Bucket, download: Download) -> None:
    bucket.put("chats/a.jsonl", BREAD)
    assert download("s3://talk/chats")
    bucket.status = 403
    assert "access denied: set AWS_ACCESS_KEY_ID" in refusal(download, "s3://talk/chats")


def test_an_object_of_which_a_part_is_missing_is_not_used(bucket: Bucket, download: Download) -> None:
    bucket.put("chats/a.jsonl", BREAD)
    bucket.cut.add("chats/a.jsonl")
    assert "bytes" in refusal(download, "s3://talk/chats")
    bucket.cut.clear()
    assert download("s3://talk/chats") == {"a.jsonl": BREAD}


@pytest.mark.parametrize("corpus", ["s3://talk/nothing", "s3://other-bucket/chats", "gs://talk/nothing"])
def test_a_name_at_which_there_is_nothing_is_reported(
    bucket: Bucket, download: Download, corpus: str
) -> None:
    bucket.put("chats/a.jsonl", BREAD)
    assert re.match(f"corpus {corpus}: there is no such object or folder", refusal(download, corpus))


def test_a_folder_without_data_is_refused_with_what_it_holds(bucket: Bucket, download: Download) -> None:
    bucket.put("chats/notes.md", "Some notes.")
    assert "holds no file with data, but notes.md" in refusal(download, "s3://talk/chats")


def test_a_compressed_object_is_read(bucket: Bucket, download: Download, tmp_path: Path) -> None:
    bucket.put("a.jsonl.gz", "")
    bucket.objects["a.jsonl.gz"].data = gzip.compress(BREAD.encode())
    config = DownloadConfig(corpus="s3://talk/a.jsonl.gz")
    assert download_corpus(tmp_path, config, corpus=find_corpus(config, tmp_path / "home")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "s3://", "s3:x", "s3://KEY:s3cr3t@talk/x", "s3://talk/x?versionId",
        "s3://talk/../x", "s3://talk//x", "gs://a", "s3://talk/a#b",
    ],
)  # fmt: skip
def test_an_address_that_could_hold_a_secret_or_another_server_is_refused(
    wrong: str, download: Download
) -> None:
    assert "give s3://BUCKET/PATH or gs://BUCKET/PATH" in refusal(download, wrong)
    assert not re.match(FORM_PATTERN, wrong) or "?" not in wrong


def test_the_address_has_a_short_name_and_can_be_part_of_a_mix() -> None:
    assert name_of(read_address("s3://talk/chats/2025.jsonl.gz")) == "2025"
    assert resolve("gs://talk").name == "talk"
    assert [part.corpus for part in read_mix("sample + s3://talk/a b=0.5")] == ["sample", "s3://talk/a b"]
    assert re.match(FORM_PATTERN, "sample + s3://talk/chats=0.5")


def test_amazons_own_client_reads_the_same_from_this_server(bucket: Bucket) -> None:
    """Otherwise the tests of this file would prove nothing about the real store."""
    boto3 = pytest.importorskip("boto3")
    for name in ("a", "b", "c"):
        bucket.put(f"chats/{name}.jsonl", BREAD)
    client = boto3.client("s3", endpoint_url=bucket.root, region_name="us-east-1")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="talk", Prefix="chats/")
    assert [each["Key"] for page in pages for each in page["Contents"]] == sorted(bucket.objects)
    assert client.get_object(Bucket="talk", Key="chats/b.jsonl")["Body"].read() == BREAD.encode()
    assert os.environ["AWS_ENDPOINT_URL"] == bucket.root
