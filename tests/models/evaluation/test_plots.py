import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.evaluation.plots import loss_curves


def step(at: int, **more: Any) -> dict[str, Any]:
    return {"kind": "step", "step": at, "loss": 5.0 - at / 100, "accuracy": at / 1000, **more}


def validation(at: int) -> dict[str, Any]:
    return {**step(at), "kind": "validation", "bpb": 2.0}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [step(20)],
        [validation(0)],
        [step(0), validation(0)],
        [step(i) for i in range(0, 200, 20)]
        + [validation(100), validation(200), {"kind": "epoch", "epoch": 1}],
        [step(20, loss=float("nan")), step(40)],
    ],
    ids=["no lines", "one step", "one validation", "step 0", "many", "not a number"],
)
def test_curves_are_drawn_of_any_number_of_points(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    metrics_jsonl, png = tmp_path / "metrics.jsonl", tmp_path / "loss.png"
    metrics_jsonl.write_text("".join(json.dumps(line) + "\n" for line in lines))
    loss_curves(metrics_jsonl, png)
    with Image.open(png) as image:
        assert image.size == (800, 360)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_the_same_lines_give_the_same_bytes_and_a_step_logged_again_counts_once(
    tmp_path: Path,
) -> None:
    drawn = []
    for lines in ([step(20), step(40)], [step(20), step(40), step(40)]):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        loss_curves(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
        drawn.append((tmp_path / "loss.png").read_bytes())
    assert drawn[0] == drawn[1]
