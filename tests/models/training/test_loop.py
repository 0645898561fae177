import json
import math
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from trainings import (
    NETWORK,
    WORDS,
    StopAt,
    assert_loss_is_that_of_the_logits,
    examples,
    lines,
    run_folder,
    timeless,
    train,
    weights,
)

from models.data.batches import read_examples
from models.data.schemas import EXAMPLES
from models.errors import InputError
from models.evaluation import metrics
from models.network import networks
from models.training import loop, trainer
from models.training.run_folder import Run
from models.training.setup import num_cores

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = run_folder(data, tmp_path_factory.mktemp("done") / "run", network={"dropout": 0.2})
    assert train(folder)
    return folder


def test_a_training_leaves_a_model_folder_that_answers(done: Path, data: Path) -> None:
    assert sorted(path.name for path in (done / "model").iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "repartee.json",
        "spelling.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    model_info = json.loads((done / "model" / "repartee.json").read_text())
    assert model_info == {
        "family": "llama",
        "normalisation": "plain",
        "redaction": "none",
        "markup": {"unit": "pair", "max_tokens": 16},
    }
    assert not list(done.glob(".tmp-*"))


def test_the_model_is_the_one_that_scored_best(done: Path, data: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    best = min(lines(done, "validation"), key=lambda line: line["bpb"])
    score = metrics.score(networks.load(done / "model"), read_examples(data / "examples", "validation"))
    assert summary["best_validation_bpb"] == best["bpb"] == pytest.approx(score.bpb, rel=1e-5)
    assert summary["best_step"] == best["step"]


def test_the_summary_says_what_was_done(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert summary["stopped_by"] == "max_epochs"
    assert summary["epochs"] == 3
    assert summary["steps"] == lines(done, "epoch")[-1]["step"]
    tokens = sum(map(len, examples(60, 0, "train")["ids"].to_pylist()))
    assert summary["train_tokens"] == 3 * tokens
    assert summary["precision"] == "fp32"
    assert summary["threads"] == 1
    assert summary["parameters"] > 0


def test_the_metrics_have_each_step_line_each_epoch_and_each_validation_once(done: Path) -> None:
    steps = [line["step"] for line in lines(done, "step")]
    total = json.loads((done / "summary.json").read_text())["steps"]
    assert steps == list(range(3, total + 1, 3))
    assert [line["epoch"] for line in lines(done, "epoch")] == [1, 2, 3]
    validations = [line["step"] for line in lines(done, "validation")]
    assert len(validations) == len(set(validations)) >= 8
    first = lines(done, "step")[0]
    assert {"loss", "accuracy", "learning_rate", "grad_norm", "tokens_per_second", "seconds_left"} <= set(
        first
    )
    assert first["loss"] == pytest.approx(math.log(4 + len(WORDS)), abs=0.5)
    assert all(isinstance(line["time"], int) for line in lines(done))


def test_the_log_has_a_header_and_a_line_an_epoch(done: Path) -> None:
    header, *epochs = (line.split() for line in (done / "train.log").read_text().splitlines())
    logged = lines(done, "epoch")
    assert [line[header.index("epoch")] for line in epochs] == ["1", "2", "3"]
    for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        column = [float(line[header.index(name)]) for line in epochs]
        assert column == pytest.approx([line[name] for line in logged], abs=1e-4)


def test_an_epochs_loss_is_its_sum_over_tokens_not_a_mean_of_batches(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", learning_rate=1e-12, max_epochs=1, log_every=1)
    train(folder)
    whole = metrics.score(networks.load(folder / "model"), read_examples(data / "examples", "train"))
    epoch = lines(folder, "epoch")[0]
    assert epoch["train_loss"] == pytest.approx(whole.nats / whole.tokens, rel=1e-5)
    assert epoch["train_accuracy"] == pytest.approx(whole.accuracy)
    means = [line["loss"] for line in lines(folder, "step")]
    assert epoch["train_loss"] != pytest.approx(sum(means) / len(means), rel=1e-7)


def test_a_figure_is_of_its_own_steps_and_of_none_before(data: Path, tmp_path: Path) -> None:
    figures = {}
    for every in (1, 4):
        folder = run_folder(data, tmp_path / str(every), learning_rate=2e-2, max_epochs=10, log_every=every)
        train(folder)
        figures[every] = [line["loss"] for line in lines(folder, "step")]
    for i, mean in enumerate(figures[4]):
        steps = figures[1][4 * i : 4 * i + 4]
        assert min(steps) <= mean <= max(steps)
    batches = len(figures[1]) // 10
    for i, epoch in enumerate(lines(folder, "epoch")):
        steps = figures[1][batches * i : batches * (i + 1)]
        assert min(steps) <= epoch["train_loss"] <= max(steps)
    # The checks above prove something only if the loss falls.
    assert max(figures[1][-4:]) < sum(figures[1]) / len(figures[1])


def test_a_model_that_got_worse_is_not_the_one_that_is_kept(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", learning_rate=5e-2, max_epochs=40)
    pq.write_table(examples(4, 0, "train"), folder / "train.parquet")  # few enough rows to overfit
    pq.write_table(examples(20, 1, "validation"), folder / "validation.parquet")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "examples": str(folder)}))
    assert train(folder)
    validations = lines(folder, "validation")
    best = min(validations, key=lambda line: line["bpb"])
    assert best["bpb"] < validations[-1]["bpb"]
    score = metrics.score(networks.load(folder / "model"), read_examples(folder, "validation"))
    assert score.bpb == pytest.approx(best["bpb"], rel=1e-5)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["best_step"], summary["best_validation_bpb"]) == (best["step"], best["bpb"])


@pytest.mark.parametrize("family", ["gpt2", "encoder-decoder"])
def test_the_other_families_train_as_well_in_bf16(data: Path, tmp_path: Path, family: str) -> None:
    folder = run_folder(
        data, tmp_path / "run", network={"family": family}, precision="bf16", learning_rate=1e-2
    )
    assert train(folder)
    epochs = lines(folder, "epoch")
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"] - 0.1
    networks.load(folder / "model")


@pytest.mark.parametrize("step", [0, 1, 3, 7, 14, 20])
def test_stopped_at_any_step_it_goes_on_to_the_same_bytes(
    data: Path, tmp_path: Path, done: Path, step: int
) -> None:
    folder = run_folder(data, tmp_path / "run", network={"dropout": 0.2})
    assert not trainer.train(folder, StopAt(step))
    assert not (folder / "model").exists()
    assert train(folder)
    assert weights(folder) == weights(done)
    assert timeless(folder) == timeless(done)


def test_a_finished_training_is_published_again_without_a_step_more(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run")
    train(folder)
    before, logged, log = weights(folder), lines(folder), (folder / "train.log").read_text()
    (folder / "summary.json").unlink()
    assert train(folder)
    assert (weights(folder), lines(folder), (folder / "train.log").read_text()) == (before, logged, log)
    assert (folder / "summary.json").exists()


def test_another_configuration_does_not_go_on_from_the_old_checkpoints(
    data: Path, tmp_path: Path, done: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(data, tmp_path / "run", network={"dropout": 0.2}, seed=5)
    trainer.train(folder, StopAt(9))
    (folder / "config.json").write_bytes((done / "config.json").read_bytes())
    assert train(folder)
    assert "a different configuration" in caplog.text
    assert weights(folder) == weights(done)
    assert timeless(folder) == timeless(done)


def test_max_steps_and_max_minutes_end_a_training_in_the_middle_of_an_epoch(
    data: Path, tmp_path: Path
) -> None:
    folder = run_folder(data, tmp_path / "steps", max_steps=4)
    train(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stopped_by"], summary["steps"]) == ("max_steps", 4)
    assert [line["epoch"] for line in lines(folder, "epoch")] == [pytest.approx(summary["epochs"], abs=0.01)]
    folder = run_folder(data, tmp_path / "minutes", max_minutes=0.3 / 60, max_epochs=10_000)
    train(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped_by"] == "max_minutes"
    assert summary["seconds"] == pytest.approx(0.3, abs=0.3)


def test_the_minutes_of_earlier_pieces_count(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", max_minutes=60, max_epochs=10_000)
    trainer.train(folder, StopAt(1))
    run = Run.read(folder)
    training = loop.Training(run, threading.Event())
    assert training.state.elapsed_s > 0
    assert training.state.step == 1


def test_a_loss_that_is_no_number_ends_the_training_and_is_never_saved(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", learning_rate=1e30, optimizer="adamw", max_norm=1e30)
    with pytest.raises(InputError, match=r"lower train\.learning_rate"):
        train(folder)
    assert not (folder / "model").exists()
    assert not list((folder / "checkpoints").glob("*"))


def test_a_training_ends_well_where_no_process_is_kept_to_some_cores(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS has no os.sched_getaffinity."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert num_cores() == os.cpu_count()
    assert train(run_folder(data, tmp_path / "run", max_steps=2))


def test_a_second_trainer_waits_and_then_ends_with_a_clear_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(data, tmp_path / "run")
    monkeypatch.setattr(trainer, "LOCK_SECONDS", 0.1)
    with FileLock(folder / "lock"), pytest.raises(InputError, match="another training run is in progress"):
        train(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tokenizer": None}, "config.json"),
        ({"network": {"width": 7, "n_head": 2}}, "config.json"),
        ({"train": {"max_step": 3}}, "max_step"),
        ({"markup": {"unit": "pair", "max_tokens": 8}, "network": {**NETWORK, "family": "gpt2"}}, None),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_in_one_line(
    data: Path, tmp_path: Path, change: dict[str, Any], reason: str | None
) -> None:
    folder = run_folder(data, tmp_path / "run", max_steps=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    if reason is None:  # the two turns of a pair, of 8 tokens each, fit into 16 positions
        assert train(folder)
        return
    with pytest.raises(InputError, match=reason) as caught:
        train(folder)
    assert "\n" not in str(caught.value)


def test_examples_that_the_network_cannot_read_are_refused(data: Path, tmp_path: Path) -> None:
    for name, rows in {
        "has no reply": examples(0, 0, "train"),
        "has ids above": pa.Table.from_pylist(
            [{**row, "ids": [9999] * len(row["ids"])} for row in examples(2, 0, "train").to_pylist()],
            EXAMPLES,
        ),
        "export the examples again": pa.Table.from_pylist(
            [
                {**row, "ids": [5] * 99, "is_reply": [True] * 99}
                for row in examples(1, 0, "train").to_pylist()
            ],
            EXAMPLES,
        ),
    }.items():
        folder = run_folder(data, tmp_path / name)
        pq.write_table(rows, folder / "train.parquet")
        pq.write_table(examples(3, 0, "validation"), folder / "validation.parquet")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "examples": str(folder)}))
        with pytest.raises(InputError, match=name):
            train(folder)


def test_a_full_disk_ends_in_one_clear_line_and_the_checkpoints_stay(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(data, tmp_path / "run", max_steps=2)
    trainer.train(folder, StopAt(1))
    checkpoints = sorted(path.name for path in (folder / "checkpoints").iterdir())
    monkeypatch.setattr(sys, "argv", ["training", str(folder)])
    monkeypatch.setattr(trainer, "stop_on_signals", lambda _, **__: [])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        status = trainer.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    assert "File too large" in (last := caplog.records[-1].getMessage())
    assert last.endswith(
        "earlier checkpoints are kept: free some space, then run the same command again to continue"
    )
    assert "Traceback" not in caplog.text
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == checkpoints
    assert train(folder)


def test_the_users_mistake_is_status_2_and_ours_is_3_with_a_last_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path)])
    monkeypatch.setattr(trainer, "stop_on_signals", lambda _, **__: [])
    assert trainer.main() == 2
    assert "config.json is missing" in caplog.records[-1].getMessage()
    folder = run_folder(data, tmp_path / "run")
    (folder / "precision.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["training", str(folder)])
    assert trainer.main() == 3
    damaged = f"training: ValueError: {folder / 'precision.json'}: precision: field required"
    assert caplog.records[-1].getMessage() == damaged


# ---- as a process ----


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "models.training.trainer", str(folder), *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_steps(folder: Path, process: subprocess.Popen[str], step: int) -> None:
    give_up_s = time.monotonic() + 60
    while max((int(path.name) for path in (folder / "checkpoints").glob("[0-9]*")), default=-1) < step:
        assert time.monotonic() < give_up_s
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.002)


def test_killed_at_a_random_step_it_goes_on_to_the_same_bytes(data: Path, tmp_path: Path) -> None:
    long: dict[str, Any] = {"network": {"dropout": 0.2}, "max_epochs": 12}
    straight = run_folder(data, tmp_path / "straight", **long)
    train(straight)
    step = int(np.random.default_rng().integers(0, 60))
    folder = run_folder(data, tmp_path / "killed", **long, checkpoint_seconds=1e-9)
    process = start(folder)
    await_steps(folder, process, step)
    process.kill()
    process.communicate()
    assert not (folder / "model").exists(), f"training ended before it was killed at step {step}"
    assert train(folder)
    assert weights(folder) == weights(straight), f"killed at step {step}"
    assert timeless(folder) == timeless(straight), f"killed at step {step}"


def test_when_its_parent_is_gone_it_writes_a_checkpoint_and_ends(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", max_epochs=100_000, checkpoint_seconds=1e-9)
    process = start(folder, "--until-stdin-closes")
    await_steps(folder, process, 1)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 143
    assert not (folder / "model").exists()


def gradients(data: Path, folder: Path, parts: int, **knobs: Any) -> dict[str, torch.Tensor]:
    """The gradients of a step on twelve rows that are processed in `parts` micro-batches."""
    training = loop.Training(Run.read(run_folder(data, folder, **knobs)), threading.Event())
    training.step.parts = parts
    training.step.gradient(np.arange(12), seed=0)
    return {name: p.grad.clone() for name, p in training.model.named_parameters() if p.grad is not None}


def test_two_halves_of_a_batch_have_the_gradient_of_the_whole(data: Path, tmp_path: Path) -> None:
    whole, halves, quarters = (gradients(data, tmp_path / str(parts), parts) for parts in (1, 2, 4))
    for name, gradient in whole.items():
        torch.testing.assert_close(halves[name], gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(quarters[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_context_teaches_by_its_weight_and_not_in_the_figures(data: Path, tmp_path: Path) -> None:
    run = Run.read(run_folder(data, tmp_path / "run", context_loss=0.5))
    training = loop.Training(run, threading.Event())
    assert_loss_is_that_of_the_logits(training)
    without_context, taught = (gradients(data, tmp_path / str(w), 1, context_loss=w) for w in (0.0, 0.5))
    assert any(not torch.equal(without_context[name], taught[name]) for name in without_context)
