import json
import time
from pathlib import Path

import pytest
import torch

from models.training import precision
from models.training.precision import choose_precision, matmul_seconds


@pytest.mark.parametrize(("bf16_seconds", "tried"), [(0.5, ["fp32", "bf16"]), (100.0, ["fp32"])])
def test_a_precision_whose_matmuls_crawl_is_not_tried_on_a_whole_step(
    bf16_seconds: float, tried: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: bf16_seconds}
    monkeypatch.setattr(precision, "matmul_seconds", seconds.__getitem__)
    requests: list[str] = []

    def probe(precision: str) -> float:
        requests.append(precision)
        return {"fp32": 1.0, "bf16": 0.5}[precision]

    chosen = choose_precision(tmp_path, torch.device("cpu"), probe)
    assert requests == tried
    assert chosen == tried[-1]
    assert choose_precision(tmp_path, torch.device("cpu"), probe) == chosen  # the recorded choice is kept
    assert requests == tried


@pytest.mark.parametrize(("is_able", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_bf16_trains_in_float32(
    is_able: bool, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: is_able)
    assert choose_precision(tmp_path, torch.device("cuda"), {}.__getitem__) == precision


def test_on_another_kind_of_device_the_precision_is_chosen_anew(tmp_path: Path) -> None:
    (tmp_path / "precision.json").write_text('{"precision": "bf16", "seconds": {}, "device": "cuda"}')
    seconds = {"fp32": 1.0, "bf16": 2.0}
    for _ in range(2):
        assert choose_precision(tmp_path, torch.device("cpu"), seconds.__getitem__) == "fp32"
    record = json.loads((tmp_path / "precision.json").read_text())
    assert (record["precision"], record["device"]) == ("fp32", "cpu")


def test_the_probe_of_a_matmul_takes_no_longer_than_a_blink() -> None:
    began_s = time.monotonic()
    assert matmul_seconds(torch.bfloat16) > 0
    assert time.monotonic() - began_s < 1
