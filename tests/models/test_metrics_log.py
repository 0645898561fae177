"""Tests of the reader of a metrics log that grows, is truncated by a resumed run, and grows again."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.metrics_log import METRICS, MetricsLog, Reader


def text(*steps: int, kind: str = "step", time: int = 1) -> str:
    return "".join(json.dumps({"kind": kind, "time": time, "step": step}) + "\n" for step in steps)


def steps(lines: list[dict[str, Any]], kind: str = "step") -> list[int]:
    return [line["step"] for line in lines if line["kind"] == kind]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / METRICS


def test_a_line_is_read_once_and_only_when_it_is_whole(path: Path) -> None:
    reader = Reader(path)
    assert reader.read() == []
    whole = text(1, 2)
    path.write_text(whole[:-5])
    assert steps(reader.read()) == [1]
    assert reader.read() == []
    path.write_text(whole)
    assert steps(reader.read()) == [2]


@pytest.mark.parametrize("more", [0, 1, 6, 20])
def test_a_file_cut_and_written_anew_is_read_on_without_a_step_twice(path: Path, more: int) -> None:
    """Depending on `more`, the new file is shorter than, as long as, or longer than the file read before."""
    path.write_text(text(*range(1, 11)))
    reader = Reader(path)
    assert steps(reader.read()) == list(range(1, 11))
    path.write_text(text(1, 2, 3, 4) + text(*range(5, 5 + more), time=123456))
    assert steps(reader.read()) == list(range(11, 5 + more))
    with path.open("a") as file:
        file.write(text(99, time=123456))
    assert steps(reader.read()) == [99]


def test_a_file_that_is_removed_and_begun_anew_is_read_from_its_start(path: Path) -> None:
    path.write_text(text(1, 2))
    reader = Reader(path)
    assert steps(reader.read()) == [1, 2]
    path.unlink()
    assert reader.read() == []
    path.write_text(text(2, 3, time=2))
    assert steps(reader.read()) == [3]


def test_what_was_there_before_is_skipped_and_what_is_made_again_of_it_is_not(path: Path) -> None:
    path.write_text(text(1, 2) + text(2, kind="epoch") + text(3, 4))
    reader = Reader(path)
    reader.skip()
    assert reader.read() == []
    path.write_text(text(1, 2) + text(2, kind="epoch") + text(3, 4, 5, time=2) + text(5, kind="epoch"))
    lines = reader.read()
    assert (steps(lines), steps(lines, "epoch")) == ([3, 4, 5], [5])


@pytest.mark.parametrize(
    "damage",
    [b"not json\n", b'{"kind": "st\n', b"[1]\n", b"\n", b"\xff\xfe\n", b"\0" * 50 + b"\n", b'{"kind": 1}\n'],
)
def test_a_damaged_line_is_passed_over_with_one_warning(
    path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(text(1).encode() + damage + text(2).encode() + damage)
    assert steps(Reader(path).read()) == [1, 2]
    assert caplog.text.count("damaged line") == 1


def test_a_journal_shorter_than_its_checkpoint_knew_is_not_filled_with_zeros(path: Path) -> None:
    metrics_log = MetricsLog(path.parent)
    metrics_log.begin(None)
    metrics_log.write("step", step=1)
    sizes = metrics_log.synced_sizes()
    path.unlink()
    metrics_log.begin(sizes)
    metrics_log.write("step", step=2)
    assert steps([json.loads(line) for line in path.read_text().splitlines()]) == [2]
