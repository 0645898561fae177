"""Tests of the lines about memory and load that a training run writes beside its figures of learning."""

from pathlib import Path

import torch
from trainings import StopAt, lines, run_folder, train

from models.metrics_log import MetricsLog
from models.registry.metrics_forwarder import read_points
from models.system_load import Sampler
from models.training import trainer

CPU = torch.device("cpu")


def test_a_training_says_how_much_memory_and_cpu_time_it_takes(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run")
    train(folder)
    first = lines(folder, "system")[0]
    assert first["step"] == lines(folder, "step")[0]["step"]
    assert 0.05 < first["memory_gb"] < 50 and first["cpu_percent"] > 0
    keys = {key for key, *_ in read_points(folder / "metrics.jsonl")}
    assert {key for key in keys if key.startswith("system/")} == {
        "system/memory_gb",
        "system/cpu_percent",
        "system/tokens_per_second",
    }


def test_a_training_that_goes_on_after_a_stop_has_one_sample_for_a_step(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", log_every=1)
    assert not trainer.train(folder, StopAt(5))
    train(folder)
    steps = [line["step"] for line in lines(folder, "system")]
    assert len(steps) == len(set(steps)) == 2


def test_samples_are_never_closer_than_the_interval(tmp_path: Path) -> None:
    metrics_log = MetricsLog(tmp_path)
    seldom, often = Sampler(CPU, seconds_between=3600), Sampler(CPU, seconds_between=0)
    for step in range(3):
        seldom.write(metrics_log, step)
    assert [line["step"] for line in lines(tmp_path, "system")] == [0]
    for step in range(3):
        often.write(metrics_log, step)
    assert [line["step"] for line in lines(tmp_path, "system")] == [0, 0, 1, 2]


def test_only_the_process_that_writes_the_metrics_samples(tmp_path: Path) -> None:
    Sampler(CPU).write(MetricsLog(tmp_path, writes=False), 1)
    assert not (tmp_path / "metrics.jsonl").exists()
