"""The GPU benchmark, run on the CPU: each row can run, and gets the right status."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from installation import PATIENCE_S

from benchmarks import gpu, gpu_rows
from benchmarks.gpu_setup import RowSetup
from models.data.schemas import EXAMPLES
from models.errors import InputError
from models.network.config import NetworkConfig
from models.text import tokenizer
from models.text.config import MarkupConfig
from models.text.tokenizer import END, START
from models.training.config import TrainConfig
from models.training.fast_path import proof

NAMES = [row.name for row in gpu.ROWS]
ABOUT = {"device": "a GPU", "minutes": 20}
RATE = {"tokens_per_second": 2000.0}


class Starts:
    """A substitute for the processes of the rows; the named rows fail."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.names = failing, list[str]()

    def __call__(self, row: gpu.Row, folder: Path, device: str, limit_s: float) -> gpu.Figures:
        self.names.append(row.name)
        if row.name in self.failing:
            raise gpu.Failed("CUDA error: an illegal | memory access")
        return RATE


def measure(folder: Path, starts: Starts, device: str = "cuda") -> gpu.Results:
    results = gpu.Results(folder, ABOUT)
    gpu.measure(results, folder, device, 20, starts)
    return results


def test_the_shares_of_the_rows_are_the_whole_time() -> None:
    assert sum(row.share for row in gpu.ROWS) == pytest.approx(1)
    assert set(NAMES) == set(gpu_rows.FIGURES)


def test_a_row_that_fails_is_a_row_with_its_error_and_the_next_ones_are_tried(tmp_path: Path) -> None:
    starts = Starts("varlen")
    results = measure(tmp_path, starts)
    assert starts.names == NAMES
    assert results.rows["varlen"]["status"] == "failed"
    lines = gpu.table(results).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2 : 2 + len(NAMES)]] == NAMES
    (failed,) = [line for line in lines if line.startswith("| varlen")]
    assert r"| failed | CUDA error: an illegal \| memory access |" in failed
    assert any("tokens/s of transformers.Trainer | | 1.00" in line for line in lines)


def test_the_same_command_goes_on_where_it_was_stopped_and_tries_what_failed_again(tmp_path: Path) -> None:
    class Stopped(BaseException):
        pass

    class UntilMemory(Starts):
        def __call__(self, row: gpu.Row, *given: Any) -> gpu.Figures:
            if row.name == "memory":
                raise Stopped
            return super().__call__(row, *given)

    with pytest.raises(Stopped):
        measure(tmp_path, UntilMemory("compile"))
    later = Starts()
    results = measure(tmp_path, later)
    assert later.names == ["compile", *NAMES[NAMES.index("memory") :]]
    assert all(results.is_done(name) for name in NAMES)
    assert json.loads((tmp_path / gpu.RESULTS).read_text()) == {"about": ABOUT, "rows": results.rows}


def test_rows_without_their_data_fail_at_once_and_say_why(tmp_path: Path) -> None:
    starts = Starts("data")
    results = measure(tmp_path, starts)
    assert starts.names == ["data", "retrain"]
    assert results.rows["ours"]["error"] == "needs the row data, which is not done"


def test_on_apples_gpu_the_parts_of_the_fast_path_are_left_out(tmp_path: Path) -> None:
    results = measure(tmp_path, Starts(), "mps")
    left_out = [name for name, row in results.rows.items() if row["status"] == "left out"]
    assert left_out == ["packing", "varlen", "compile", "graph"]


def test_figures_of_another_gpu_are_not_mixed_in(tmp_path: Path) -> None:
    measure(tmp_path, Starts())
    with pytest.raises(InputError, match=r"was measured with device a GPU, not another.*--out"):
        gpu.Results(tmp_path, {**ABOUT, "device": "another"})


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_torn_file_of_results_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / gpu.RESULTS).write_text(content)
    with pytest.raises(InputError, match=r"results\.json cannot be used: .*; give another --out"):
        gpu.Results(tmp_path, ABOUT)


def test_a_file_in_the_folders_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="cannot be used: FileExistsError"):
        gpu.Results(tmp_path / "out", ABOUT)


def test_without_a_gpu_it_says_so_in_one_line_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "out")])
    assert gpu.main() == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and "sees no GPU here" in output.err and "--device cpu" in output.err
    assert not (tmp_path / "out").exists()


def test_a_row_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with (tmp_path / "log").open("wb") as said:
        assert gpu.run_to_end([sys.executable, "-c", outer], {}, said, 1.0) is None
    time.sleep(3)
    assert not mark.exists()


@pytest.mark.soak  # it starts a process that imports torch
def test_the_error_of_a_row_is_the_last_line_that_its_process_said(tmp_path: Path) -> None:
    """The row's process fails because there is no row with this name."""
    with pytest.raises(gpu.Failed, match="KeyError: 'nonsense'"):
        gpu.start_row(gpu.Row("nonsense", 1, ""), tmp_path, "cpu", 120, corpus="sample")


@pytest.fixture
def setup(tmp_path: Path) -> RowSetup:
    """A folder like the one that the row `data` writes; the reply of each exchange repeats its context."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        turn = rng.integers(4, 20, rng.integers(1, 9)).tolist()
        ids = [START, *turn, END, *turn, END]
        flags = [position >= len(turn) + 2 for position in range(len(ids))]
        row = {"ids": ids, "is_reply": flags, "conversation_id": str(i), "turn": 1, "group": "a"}
        rows.append({**row, "split": "train", "replies": 1, "reply_bytes": len(turn), "spelled_nats": 0.0})
    examples, words = tmp_path / "examples", tmp_path / "words"
    for folder in (examples, words, tmp_path / "run"):
        folder.mkdir()
    for split in ("train", "validation"):
        pq.write_table(pa.Table.from_pylist(rows, EXAMPLES), examples / f"{split}.parquet")
    tokenizer.save(tokenizer.learn_words([" ".join("abcdefghijklmnop")], min_count=1), [1.0] * 257, words)
    config = {
        "network": NetworkConfig(n_layer=2, n_head=2, width=32).model_dump(),
        "train": TrainConfig(batch_tokens=256, context_loss=1.0, processes=1).model_dump(),
        "markup": MarkupConfig(unit="pair", max_tokens=16).model_dump(),
        "normalisation": "plain",
        "tokenizer": str(words),
        "examples": str(examples),
    }
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return RowSetup(tmp_path, torch.device("cpu"), 60.0)


@pytest.mark.parametrize("name", gpu_rows.PARTS)
def test_a_part_of_the_fast_path_is_compared_with_the_standard_path(setup: RowSetup, name: str) -> None:
    figures = gpu_rows.FIGURES[name](setup)
    assert figures["loss"] == pytest.approx(figures["plain"], rel=1e-4)
    assert figures["gradient_away"] < 1e-3
    assert min(figures["tokens_per_second"], figures["without"]) > 0


def test_a_part_with_another_loss_is_refused(setup: RowSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.network.llama.packed_block._attend", lambda q, k, v, *_: v)
    with pytest.raises(proof.Unproved, match="the standard path"):
        gpu_rows.FIGURES["packing"](setup)


def test_a_batch_that_does_not_fit_is_made_in_parts(setup: RowSetup) -> None:
    figures = gpu_rows.memory(setup)
    assert figures["parts"] == 2
    assert figures["loss"] == pytest.approx(figures["whole"], rel=1e-4)


@pytest.mark.soak
def test_a_training_is_killed_and_goes_on(setup: RowSetup) -> None:
    figures = gpu_rows.resume(setup)
    assert 0 < figures["killed_after_checkpoint"] < gpu_rows.KILLED_STEPS


@pytest.mark.soak
def test_all_rows_are_made_in_small_on_the_cpu(tmp_path: Path) -> None:
    results = gpu.Results(tmp_path, ABOUT)

    def start(row: gpu.Row, folder: Path, device: str, limit_s: float) -> gpu.Figures:
        return gpu.start_row(row, folder, device, 90, corpus="sample", kill_after_s=PATIENCE_S)

    gpu.measure(results, tmp_path, "cpu", 30, start)
    table = gpu.table(results)
    assert [row["status"] for row in results.rows.values()] == ["done"] * len(NAMES), table
    assert 0 < results.rows["ours"]["figures"]["mfu"] < 1
    assert results.rows["retrain"]["figures"]["outcome"] == "promoted"
