"""Of the files of a data set, those are read that hold its conversations, and no conversation twice."""

import gzip
import io
import logging
import zipfile
from collections.abc import Callable

import pytest
from hub_server import Hub

from models.errors import InputError

Download = Callable[[str], dict[str, str]]
A, B, C = (f'{{"prompt": "{letter}?", "completion": "Yes."}}\n' for letter in "ABC")
TABLE = "Question,Answer\nA?,Yes.\n"


def zipped(**files: str) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "."), text)
    return buffer.getvalue()


def refusal(download: Download, corpus: str) -> str:
    with pytest.raises(InputError) as error:
        download(corpus)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_accompanies_the_data_is_not_downloaded(hub: Hub, download: Download) -> None:
    others = dict.fromkeys(
        (
            ".gitattributes",
            "README.md",
            "LICENSE.txt",
            "talk.py",
            "dataset_info.json",
            "a.png",
            "weights.bin",
            ".hidden/a.jsonl",
            "a.tar.gz",
        ),
        "x",
    )
    hub.publish("org/talk", {**others, "a.jsonl": A})
    assert download("hf:org/talk") == {"a.jsonl": A}
    assert len(hub.requested("/resolve/")) == 1


def test_the_folder_data_goes_before_other_files(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"data/train.jsonl": A, "data/en/test.jsonl": B, "raw/train.jsonl": C})
    assert download("hf:org/talk") == {"train.jsonl": A, "test.jsonl": B}


def test_one_format_is_read_if_there_are_several(
    hub: Hub, download: Download, caplog: pytest.LogCaptureFixture
) -> None:
    hub.publish("org/talk", {"talk.jsonl": A * 9, "talk.csv": TABLE, "notes.txt": "Ann: A?\nBob: Yes.\n"})
    with caplog.at_level(logging.INFO):
        assert download("hf:org/talk") == {"talk.jsonl": A * 9}
    assert "1 of 3 files" in caplog.text and "notes.txt, talk.csv" in caplog.text
    assert download("hf:org/talk/talk.csv") == {"talk.csv": TABLE}
    hub.publish("org/talk", {"statistics.json": "{}", "talk.csv": TABLE})
    assert download("hf:org/talk") == {"talk.csv": TABLE}, "the larger one"
    hub.publish("org/talk", {"talk.parquet": "PAR1", "talk.jsonl": A * 9})
    assert list(download("hf:org/talk")) == ["talk.parquet"]


def test_a_compressed_copy_and_an_equal_file_are_not_read_twice(hub: Hub, download: Download) -> None:
    hub.publish(
        "org/talk", {"a.jsonl": A, "a.jsonl.gz": gzip.compress(A.encode()), "copy.jsonl": A, "b.jsonl": B}
    )
    assert download("hf:org/talk") == {"a.jsonl": A, "b.jsonl": B}


def test_the_default_configuration_of_the_card_is_read(hub: Hub, download: Download) -> None:
    files = {"en/train.jsonl": A, "en/test.jsonl": B, "all/train.jsonl": A + B + C}
    configurations = [
        {"config_name": "all", "data_files": "all/*"},
        {"config_name": "en", "default": True, "data_files": [{"split": "train", "path": ["en/*.jsonl"]}]},
    ]
    hub.publish("org/talk", files, {"configs": configurations})
    assert download("hf:org/talk") == {"train.jsonl": A, "test.jsonl": B}
    assert download("hf:org/talk/all") == {"train.jsonl": A + B + C}


def test_a_choice_between_configurations_is_left_to_the_user(hub: Hub, download: Download) -> None:
    configurations = [
        {"config_name": "main", "data_dir": "main"},
        {"config_name": "socratic", "data_files": [{"split": "train", "path": "**/s-*.jsonl"}]},
    ]
    files = {"main/a.jsonl": A, "other/s-1.jsonl": B, "s-2.jsonl": C}
    hub.publish("org/talk", files, {"configs": configurations})
    message = refusal(download, "hf:org/talk")
    assert "has 2 configurations and no default (main, socratic): give one of them" in message
    assert message.endswith("as in hf:org/talk/main")
    assert download("hf:org/talk/main") == {"a.jsonl": A}
    assert download("hf:org/talk/socratic") == {"s-1.jsonl": B, "s-2.jsonl": C}


@pytest.mark.parametrize(
    "card", [{"configs": "x"}, {"configs": [1, {"config_name": "c", "data_files": 5}]}, []]
)
def test_a_card_that_says_nothing_is_ignored(hub: Hub, download: Download, card: object) -> None:
    hub.publish("org/talk", {"a.jsonl": A}, card)  # type: ignore[arg-type]
    assert download("hf:org/talk") == {"a.jsonl": A}


def test_a_folder_with_any_name_can_be_given(hub: Hub, download: Download) -> None:
    folder = "données de l'été 100%/lang=en"
    hub.publish("org/talk", {f"{folder}/a b'#?.jsonl": A, "b.jsonl": B})
    assert download(f"hf:org/talk/{folder}") == {"a b'#?.jsonl": A}
    assert download("hf:org/talk/données de l'été 100%/") == {"a b'#?.jsonl": A}


def test_a_folder_that_does_not_exist_is_told_with_what_there_is(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"en/a.jsonl": A, "de/b.jsonl": B, "README.md": "x"})
    message = refusal(download, "hf:org/talk/fr")
    assert "the data set has no folder, file or configuration 'fr': it has README.md, de, en" in message


def test_no_readable_file_is_told_with_what_there_is(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"README.md": "x", "a.png": "x", "b.tar.gz": "x"})
    message = refusal(download, "hf:org/talk")
    assert "no file that can be read: it has README.md, a.png, b.tar.gz" in message
    hub.publish("org/talk", {"README.md": "x", "talk.py": "import os"})
    message = refusal(download, "hf:org/talk")
    assert "a script is never run" in message and "hf:org/talk@refs/convert/parquet" in message
    assert hub.requested("/resolve/") == []


def test_a_zip_is_unpacked_and_the_cornell_layout_is_known(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"a.zip": zipped(a__jsonl=A, b__jsonl=B)})
    assert download("hf:org/talk") == {"a.jsonl": A, "b.jsonl": B}
    layout = {"x/movie_lines.txt": "L1 +++$+++ u0", "x/movie_conversations.txt": "u0 +++$+++ u1"}
    hub.publish("org/talk", layout)
    assert set(download("hf:org/talk")) == {"movie_lines.txt", "movie_conversations.txt"}


def test_a_path_that_leads_elsewhere_is_only_a_name(hub: Hub, download: Download) -> None:
    hub.publish("org/talk", {"../../evil.jsonl": A, "/etc/b.jsonl": B, "c\\d\x01.jsonl": C})
    assert list(download("hf:org/talk").values()).count(A) <= 1


def test_a_data_set_that_is_too_large_is_refused_before_the_download(
    hub: Hub, download: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpus.hub import copy

    monkeypatch.setattr(copy, "MAX_BYTES", 100)
    hub.publish("org/talk", {"a.jsonl": A * 2, "b.jsonl": B * 3})
    message = refusal(download, "hf:org/talk")
    assert "2 files" in message and "give a folder or a file of it, as in hf:org/talk/a.jsonl" in message
    assert hub.requested("/resolve/") == []
