"""A data set of the hub is downloaded by commit, checked, and stored without anything that is secret."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Hub

from corpus.download import DownloadConfig, find_corpus
from corpus.hub.address import read_address
from corpus.hub.listing import request_listing
from corpus.source import identity, resolve
from corpus.transfer.guard import Reach
from models.errors import InputError

Download = Callable[[str], dict[str, str]]
TURN = '{"messages": [{"role": "user", "content": "%s?"}, {"role": "assistant", "content": "Yes."}]}\n'
BREAD, CAKE = TURN % "Bread", TURN % "Cake"
LONG = "".join(TURN % f"Loaf {i}" for i in range(50))


def identity_of(corpus: str, home: Path) -> str:
    return find_corpus(DownloadConfig(corpus=corpus), home).identity


def refusal(download: Download, corpus: str) -> str:
    with pytest.raises(InputError) as error:
        download(corpus)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_files_of_the_newest_commit_are_downloaded(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"README.md": "# Talk", "train.jsonl": BREAD})
    assert download("hf:org/talk") == {"train.jsonl": BREAD}
    hub.publish("org/talk", {"README.md": "# Talk", "train.jsonl": CAKE, "more.jsonl": LONG})
    assert download("hf:org/talk") == {"train.jsonl": CAKE, "more.jsonl": LONG}


def test_the_hubs_own_client_reads_the_same_from_this_server(hub: Hub, tmp_path: Path) -> None:
    """Otherwise the tests of this file would prove nothing about the real hub."""
    commit = hub.publish("org/talk", {"a.jsonl": BREAD, "b.jsonl": LONG})
    program = (
        "import huggingface_hub as hub\n"
        "found = hub.HfApi().dataset_info('org/talk', files_metadata=True)\n"
        "print(found.sha, *((f.rfilename, f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in found.siblings))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    listing = request_listing(read_address("hf:org/talk"), reach=Reach())
    files = ((file.path, file.size_bytes, file.digest) for file in listing.files)
    assert done.stdout.split("\n")[0] == " ".join([commit, *map(str, files)]), done.stderr


def test_the_commit_is_the_identity(hub: Hub, tmp_path: Path) -> None:
    first = hub.publish("org/talk", {"train.jsonl": BREAD})
    assert identity_of("hf:org/talk", tmp_path) == f"hub:org/talk@{first}"
    second = hub.publish("org/talk", {"train.jsonl": BREAD})
    assert identity_of("hf:org/talk", tmp_path) == f"hub:org/talk@{second}"
    hub.requests.clear()
    assert identity_of(f"hf:org/talk@{first}", tmp_path) == f"hub:org/talk@{first}"
    assert hub.requests == [], "nobody has to ask for the commit that the user has given"


def test_a_commit_that_changes_no_file_with_data_is_not_new(
    hub: Hub, download: Download, tmp_path: Path
) -> None:
    first = hub.publish("org/talk", {"README.md": "# Talk", "train.jsonl": BREAD})
    download("hf:org/talk")
    hub.publish("org/talk", {"README.md": "# Talks", "train.jsonl": BREAD})
    assert identity_of("hf:org/talk", tmp_path / "home") == f"hub:org/talk@{first}"
    third = hub.publish("org/talk", {"README.md": "# Talks", "train.jsonl": CAKE})
    assert identity_of("hf:org/talk", tmp_path / "home") == f"hub:org/talk@{third}"


def test_a_commit_a_branch_and_a_tag_can_be_given(hub: Hub, download: Download) -> None:
    first = hub.publish("org/talk", {"train.jsonl": BREAD})
    hub.publish("org/talk", {"train.jsonl": CAKE})
    hub.data_sets["org/talk"].branches["v1.0"] = first
    hub.data_sets["org/talk"].branches["refs/convert/parquet"] = first
    assert download(f"hf:org/talk@{first}") == {"train.jsonl": BREAD}
    assert download("hf:org/talk@v1.0") == {"train.jsonl": BREAD}
    assert download("hf:org/talk@refs/convert/parquet") == {"train.jsonl": BREAD}
    assert download("hf:org/talk") == {"train.jsonl": CAKE}


def test_a_file_that_a_new_commit_has_not_changed_is_not_downloaded_again(
    hub: Hub, download: Download
) -> None:
    hub.publish("org/talk", {"train.jsonl": LONG, "test.jsonl": BREAD})
    download("hf:org/talk")
    hub.publish("org/talk", {"train.jsonl": LONG, "test.jsonl": CAKE})
    hub.requests.clear()
    assert download("hf:org/talk") == {"train.jsonl": LONG, "test.jsonl": CAKE}
    assert [path.rpartition("/")[2] for path in hub.requested("/resolve/")] == ["test.jsonl"]
    hub.requests.clear()
    download("hf:org/talk")
    assert hub.requested("/resolve/") == []


def test_the_copies_of_an_older_commit_are_removed(hub: Hub, download: Download, tmp_path: Path) -> None:
    hub.publish("org/talk", {"train.jsonl": LONG})
    download("hf:org/talk")
    hub.publish("org/talk", {"train.jsonl": BREAD})
    download("hf:org/talk")
    (folder,) = (tmp_path / "home" / "store" / "download" / ".partial").iterdir()
    sizes = [path.stat().st_size for path in folder.iterdir() if path.suffix == ".jsonl"]
    assert sizes == [len(BREAD)]


def test_a_copy_that_is_damaged_on_the_disk_is_downloaded_again(
    hub: Hub, download: Download, tmp_path: Path
) -> None:
    hub.publish("org/talk", {"train.jsonl": BREAD})
    download("hf:org/talk")
    (folder,) = (tmp_path / "home" / "store" / "download" / ".partial").iterdir()
    (copy,) = folder.glob("*.jsonl")
    copy.write_text(CAKE)
    assert download("hf:org/talk") == {"train.jsonl": BREAD}


def test_other_bytes_than_the_hub_lists_are_refused(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"train.jsonl": LONG})
    hub.damaged.add("train.jsonl")
    assert "train.jsonl does not have the digest that the hub gives" in refusal(download, "hf:org/talk")
    hub.damaged.clear()
    assert download("hf:org/talk") == {"train.jsonl": LONG}


def test_a_mirror_that_lists_no_digests_is_used(hub: Hub, download: Download) -> None:
    hub.lists_blobs = False
    hub.publish("org/talk", {"train.jsonl": LONG, "test.jsonl": BREAD})
    assert download("hf:org/talk") == {"train.jsonl": LONG, "test.jsonl": BREAD}


def test_a_busy_hub_is_asked_again(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"train.jsonl": LONG})
    hub.failures += [503]
    assert download("hf:org/talk") == {"train.jsonl": LONG}


def test_during_an_outage_the_newest_stored_copy_is_used(
    hub: Hub, download: Download, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.publish("org/talk", {"train.jsonl": BREAD})
    download("hf:org/talk")
    before = identity_of("hf:org/talk", tmp_path / "home")
    hub.is_down = True
    with caplog.at_level(logging.WARNING):
        assert download("hf:org/talk") == {"train.jsonl": BREAD}
    assert "hf:org/talk" in caplog.text and "the copy downloaded earlier is used" in caplog.text
    assert identity_of("hf:org/talk", tmp_path / "home") == before


def test_a_commit_that_was_downloaded_needs_no_network(hub: Hub, download: Download) -> None:
    commit = hub.publish("org/talk", {"train.jsonl": BREAD})
    download(f"hf:org/talk@{commit}")
    hub.requests.clear()
    assert download(f"hf:org/talk@{commit}") == {"train.jsonl": BREAD}
    assert hub.requests == []


def test_without_a_network_and_a_copy_one_line_says_so(
    download: Download, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    message = refusal(download, "hf:org/talk")
    assert message.startswith("corpus hf:org/talk: offline: could not reach 127.0.0.1 (")
    assert "--corpus PATH" in message


def test_the_libraries_are_offline_and_the_download_is_not(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    from environment import quiet_environment

    hub.publish("org/talk", {"train.jsonl": BREAD})
    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ.pop("HF_HUB_OFFLINE_BY_REPARTEE", None)
    quiet_environment()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert download("hf:org/talk") == {"train.jsonl": BREAD}


def test_a_user_who_forbids_the_hub_is_obeyed(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.publish("org/talk", {"train.jsonl": BREAD})
    monkeypatch.delenv("HF_HUB_OFFLINE_BY_REPARTEE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for corpus in ("hf:org/talk", f"hf:org/talk@{commit}"):
        assert "HF_HUB_OFFLINE is set: unset it" in refusal(download, corpus)
    assert hub.requests == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    download("hf:org/talk")
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download("hf:org/talk") == {"train.jsonl": BREAD}
    assert hub.requests == []


def test_a_token_goes_to_the_hub_alone_and_into_no_file(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.publish("org/talk", {"train.jsonl": LONG}, is_private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert download("hf:org/talk") == {"train.jsonl": LONG}
    assert {(request.host, request.token) for request in hub.requests} == {
        ("hub", f"Bearer {hub.token}"),
        ("storage", None),
    }
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(hub.token.encode() in path.read_bytes() for path in files)
    assert not any(b"s1gned" in path.read_bytes() for path in files)


def test_a_missing_data_set_and_a_private_one_are_told_in_one_line(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/secret", {"train.jsonl": LONG}, is_private=True)
    for corpus in ("hf:org/none", "hf:org/secret"):
        message = refusal(download, corpus)
        assert message.startswith(f"corpus {corpus}: the hub has no public data set of this name: check")
        assert "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert "has no data set of this name that the token in HF_TOKEN may read" in refusal(
        download, "hf:org/none"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_wr0ng")
    message = refusal(download, "hf:org/secret")
    assert "does not accept the token in HF_TOKEN" in message and "wr0ng" not in message


@pytest.mark.parametrize("token", ["hf_s3\ncr3t", "hf_s3 cr3t", "hf_sécr3t"])
def test_a_token_that_cannot_be_sent_is_not_shown(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(download, "hf:org/talk")
    assert "HF_TOKEN is not a token" in message and "cr3t" not in message


def test_terms_that_must_be_accepted_are_told_with_the_page(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("org/gated", {"train.jsonl": LONG}, is_gated=True)
    message = refusal(download, "hf:org/gated")
    assert f"accept its terms at {hub.root}/datasets/org/gated" in message and "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert download("hf:org/gated") == {"train.jsonl": LONG}


@pytest.mark.parametrize("revision", ["0" * 40, "v9", "1a2b3c4"])
def test_a_wrong_commit_is_told(hub: Hub, download: Download, revision: str) -> None:
    hub.publish("org/talk", {"train.jsonl": BREAD})
    message = refusal(download, f"hf:org/talk@{revision}")
    assert f"the data set has no commit, branch or tag {revision}: check" in message
    assert f"{hub.root}/datasets/org/talk/commits/main" in message


def test_a_server_that_is_no_hub_is_told(hub: Hub, download: Download) -> None:
    hub.failures += [410]
    message = refusal(download, "hf:org/talk")
    assert f"{hub.root} has answered HTTP 410" in message and "check the variable HF_ENDPOINT" in message


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://h", "http://", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_told(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "HF_ENDPOINT" in refusal(download, "hf:org/talk")


def test_a_deployed_run_reaches_a_private_hub_only_if_it_is_allowed(hub: Hub, tmp_path: Path) -> None:
    hub.publish("org/talk", {"train.jsonl": BREAD})
    source = resolve("hf:org/talk")
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is a loopback address.*REPARTEE_DOWNLOAD_HOSTS$"):
        identity(source, tmp_path, reach=Reach(public_only=True))
    allowed = Reach(public_only=True, allowed=("127.0.0.1",))
    assert identity(source, tmp_path, reach=allowed).startswith("hub:org/talk@")


def test_a_mix_names_the_data_set_and_stores_each_source(
    hub: Hub, tmp_path: Path, download: Download
) -> None:
    hub.publish("org/talk", {"train.jsonl": BREAD})
    hub.publish("org/other", {"train.csv": "Question,Answer\nBread?,Yes.\n"})
    config = DownloadConfig(corpus="sample + hf:org/talk=0.3 + hf:org/other")
    assert list(find_corpus(config, tmp_path).sources) == ["sample", "talk", "other"]
