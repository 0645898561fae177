"""Tests that records of older and later versions can be read, and that errors name what is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.report import Report
from models.evaluation.scorecard import ScoreRecord
from models.record import Record
from models.text.config import Dialogue
from models.text.encoding import ModelInfo
from models.training.launch import Summary
from models.training.precision import PrecisionChoice

TEXT = {"normalisation": "plain", "markup": {"unit": "pair", "max_tokens": 16}}
FIRST_VERSIONS: dict[type[Record], dict[str, Any]] = {
    Dialogue: TEXT,
    ModelInfo: TEXT,
    PrecisionChoice: {"precision": "bf16"},
    Report: {"metrics": {"test_bpb": 1.5}, "normalisation": "plain"},
    ScoreRecord: {"bpb": 1.5, "normalisation": "plain"},
    Summary: {"steps": 3, "precision": "fp32", "device": "cpu"},
}


@pytest.mark.parametrize("record", FIRST_VERSIONS)
def test_what_the_first_version_wrote_is_read_and_unknown_keys_are_ignored(
    tmp_path: Path, record: type[Record]
) -> None:
    content = FIRST_VERSIONS[record]
    (tmp_path / "record.json").write_text(json.dumps({**content, "of a later version": [1]}))
    read = record.read(tmp_path / "record.json")
    assert read.model_dump(include=set(content)) == content


@pytest.mark.parametrize("record", FIRST_VERSIONS)
def test_what_is_written_is_read_again(tmp_path: Path, record: type[Record]) -> None:
    written = record(**FIRST_VERSIONS[record])
    written.write(tmp_path / "record.json")
    assert repr(record.read(tmp_path / "record.json")) == repr(written), "a figure may be NaN"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "record.json: precision: field required"),
        ('{"precision": 16}', "record.json: precision: input should be a valid string"),
        ('{"precision"', "delimiter"),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file_and_the_key(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        PrecisionChoice.read(tmp_path / "record.json")
