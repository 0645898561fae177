import math
from pathlib import Path

import pytest
from trainings import examples

from models.data.batches import Examples
from models.training import validation
from models.training.config import TrainConfig


def test_a_slow_network_is_validated_on_no_more_tokens_than_its_share_of_the_minutes_holds(
    tmp_path: Path,
) -> None:
    table = examples(4000, 0, "validation")
    config = TrainConfig(max_minutes=10, batch_tokens=10_000)
    (tmp_path / "precision.json").write_text('{"precision": "bf16", "seconds": {"fp32": 1.0, "bf16": 20.0}}')
    affordable = validation.affordable_tokens(tmp_path, config)
    assert affordable == 3 * 1024 / 20 * 0.05 * 600  # three times the probe's speed, for 5 % of the time
    sample = validation.subsample(table, 1000, 10**6, affordable, config)
    assert len(Examples(sample).ids) == pytest.approx(affordable, rel=0.2)
    without = config.model_copy(update={"max_minutes": None})
    assert validation.affordable_tokens(tmp_path, without) == math.inf
