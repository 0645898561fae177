"""Tests of how the benchmarks compute their figures; the measured times are not tested."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import contest, cores, peak, saves
from models.data import batches
from models.data.schemas import EXAMPLES
from models.network import networks
from models.network.config import NetworkConfig
from models.training.config import TrainConfig
from models.training.step import GradientStep

LAYERS, WIDTH, ROWS, POSITIONS = 2, 32, 3, 16


def examples() -> batches.Examples:
    row = {
        "ids": [*range(4, 5 + POSITIONS)],
        "is_reply": [position > 6 for position in range(POSITIONS + 1)],
        "conversation_id": "1",
        "turn": 1,
        "group": "a",
        "split": "train",
        "replies": 1,
        "reply_bytes": 9,
        "spelled_nats": 0.0,
    }
    return batches.Examples(pa.Table.from_pylist([row] * ROWS, EXAMPLES))


@pytest.mark.parametrize("context_loss", [0.0, 1.0])
def test_the_formula_counts_what_torch_counts_but_for_the_masked_half_of_the_attention(
    context_loss: float,
) -> None:
    model = networks.build(NetworkConfig(n_layer=LAYERS, n_head=2, width=WIDTH), 64, 32)
    model.set_attn_implementation("eager")
    rows = np.arange(ROWS)
    step = GradientStep(model, examples(), TrainConfig(context_loss=context_loss), workers=1)
    with FlopCounterMode(display=False) as counter:
        step.gradient(rows, seed=0)
    masked = 6 * LAYERS * WIDTH * ROWS * POSITIONS**2
    assert peak.flops(model, examples(), rows, context_loss) + masked == counter.get_total_flops()


def test_a_checkpoint_costs_its_seconds_and_those_of_the_slower_steps_behind_it() -> None:
    steps_s = [1.0] * 20 + [1.5] * saves.AFTER + [1.0] * 20
    assert saves.cost(steps_s, [(20, 2.0)]) == (2.0, 0.5 * saves.AFTER)


def test_two_cores_are_compared_piece_by_piece_and_the_first_tenth_counts_nothing() -> None:
    assert cores.counted([9.0] + [2.0] * 9, [1.0] + [1.0] * 8 + [4.0]) == [2.0] * 8 + [0.5]


def test_a_run_that_has_ended_is_not_repeated_and_other_minutes_are_refused(tmp_path: Path) -> None:
    runs = []

    def run(work: Path) -> dict[str, Any]:
        runs.append(work)
        return {"bpb": 1.5}

    for _ in range(2):
        records = contest.Records(tmp_path, {"minutes": 1})
        assert records.ensure("ours-0", run)["bpb"] == 1.5
    assert len(runs) == 1
    with pytest.raises(SystemExit, match="has minutes 1, not 2"):
        contest.Records(tmp_path, {"minutes": 2})
