"""The stages download and parse store and read each source of a mix apart from the others."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from corpus.download import DownloadConfig, download_corpus, find_corpus
from corpus.layout import MEMBERS, stored_sources
from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig
from corpus.transfer.guard import Reach
from models.errors import DataRejected, InputError

TURNS = '{"conversation_id": "a", "speaker": "%s", "text": "%s", "group": "monday"}\n'
EXCHANGE = TURNS % ("ann", "Do you have bread?") + TURNS % ("baker", "Yes.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(EXCHANGE)
    return tmp_path


def download(corpus: str, out: Path) -> int:
    out.mkdir()
    config = DownloadConfig(corpus=corpus, sample_turns=100)
    return download_corpus(out, config, corpus=find_corpus(config, out))


def parsed(download: Path, **settings: float) -> tuple[list[dict[str, object]], dict[str, dict[str, object]]]:
    out = download / "parsed"
    out.mkdir()
    parse_corpus(out, ParseConfig.model_validate(settings), download)
    return pq.read_table(out / "turns.parquet").to_pylist(), json.loads((out / "report.json").read_text())


def identity(corpus: str, folder: Path) -> str:
    return find_corpus(DownloadConfig(corpus=corpus), folder).identity


def test_files_and_the_cornell_layout_are_stored_side_by_side(folder: Path) -> None:
    out = folder / "out"
    assert download("sample + one/train.jsonl=0.5", out) == 3
    assert stored_sources(out) == {
        "sample": {name: out / "sources" / "sample" / name for name in MEMBERS},
        "train": {"train.jsonl": out / "sources" / "train" / "files" / "train.jsonl"},
    }
    origin = json.loads((out / "logs" / "source.json").read_text())
    assert origin["name"] == "sample+train" and list(origin["members"]) == ["train/train.jsonl"]


def test_one_source_is_stored_as_before(folder: Path) -> None:
    out = folder / "out"
    assert download("one/train.jsonl=0.5", out) == 1
    stored = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert stored == ["files/train.jsonl", "logs/source.json"]
    turns, report = parsed(out)
    assert {turn["conversation_id"] for turn in turns} == {"a"}
    assert report["conversations_by_file"] == {"train.jsonl": 1}


def test_equal_ids_in_two_sources_are_two_conversations_of_the_same_group(folder: Path) -> None:
    download("one/train.jsonl + two/train.jsonl", folder / "out")
    turns, report = parsed(folder / "out")
    assert [turn["conversation_id"] for turn in turns] == ["train/a"] * 2 + ["train-2/a"] * 2
    assert {turn["group"] for turn in turns} == {"monday"}
    assert report["conversations_by_file"] == {"train/train.jsonl": 1, "train-2/train.jsonl": 1}
    assert report["turns"] == report["lines_read"] == 4
    assert report["turns_by_role"]["speaker"] == {"read": 4, "kept": 4, "joined": 0, "rejected": {}}


def test_a_reject_names_its_source_and_each_source_has_its_own_limit(folder: Path) -> None:
    (folder / "one" / "train.jsonl").write_text(EXCHANGE + "{\n")
    (folder / "two" / "train.jsonl").write_text(EXCHANGE * 200)
    download("one/train.jsonl + two/train.jsonl", folder / "out")
    with pytest.raises(
        DataRejected, match=r"^train: 1 of 3 lines cannot be used; the first is train\.jsonl:3"
    ):
        parsed(folder / "out")
    (folder / "out" / "parsed").rename(folder / "failed")
    parsed(folder / "out", max_reject_share=0.5)
    rejects = pq.read_table(folder / "out" / "parsed" / "rejects.parquet").to_pylist()
    assert [reject["file"] for reject in rejects] == ["train/train.jsonl"]


def test_a_source_that_cannot_be_used_is_named(folder: Path) -> None:
    (folder / "two" / "train.jsonl").write_bytes(b"\x00\x01\x02" * 10)
    with pytest.raises(InputError, match=r"^train-2: train\.jsonl is neither text nor Parquet"):
        download("one/train.jsonl + two/train.jsonl", folder / "out")
    (folder / "two" / "train.jsonl").write_text("")
    download("one/train.jsonl + two/train.jsonl", folder / "other")
    with pytest.raises(DataRejected, match=r"^train-2: "):
        parsed(folder / "other")


def test_each_address_of_a_mix_must_be_one_that_the_run_may_reach(folder: Path) -> None:
    config = DownloadConfig(corpus="one + http://127.0.0.1:9/two.jsonl=0.5")
    with pytest.raises(InputError, match=r"127\.0\.0\.1.*REPARTEE_DOWNLOAD_HOSTS"):
        find_corpus(config, folder, Reach(public_only=True))


def test_the_identity_of_a_mix_changes_with_each_source_and_not_with_the_weights(folder: Path) -> None:
    before = identity("one + two", folder)
    assert identity("one=0.5 + two=2", folder) == before
    assert identity("one=0.5", folder) == identity("one", folder) != before
    (folder / "two" / "train.jsonl").write_text(EXCHANGE + "\n")
    assert identity("one + two", folder) != before
