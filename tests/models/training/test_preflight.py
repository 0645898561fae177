"""Each test plants a common bug where it would occur; the preflight check for this bug must then fail."""

import json
import logging
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from trainings import NETWORK, run_folder
from transformers import PreTrainedModel

from models.data import batches
from models.data.batches import NO_LOSS, Batch
from models.network import networks
from models.network.llama import cpu_block
from models.text import tokenizer
from models.text.tokenizer import END, PAD
from models.training import loop, preflight, step, trainer
from models.training.run_folder import Run
from models.training.state import TrainingState

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"network": {"width": 32, "n_layer": 2}, "context_loss": 0.5},
    "gpt2": {"network": {"family": "gpt2", "width": 32}},
    "encoder-decoder": {"network": {"family": "encoder-decoder", "width": 32, "dropout": 0.1}},
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def training_of(data: Path, folder: Path, family: str = "llama", **changes: Any) -> loop.Training:
    run = run_folder(data, folder, **{**SHAPES[family], **changes})
    (run / "preflight.json").unlink()
    return loop.Training(Run.read(run), threading.Event())


def check(training: loop.Training) -> None:
    preflight.check(training.model, training.examples, training.run, training.step.precision)


@pytest.mark.parametrize("family", SHAPES)
def test_a_sound_training_passes_and_is_left_as_it_was(data: Path, tmp_path: Path, family: str) -> None:
    training = training_of(data, tmp_path / "run", family)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    rng_state = torch.get_rng_state()
    check(training)
    assert torch.equal(torch.get_rng_state(), rng_state)
    assert training.model.training
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    record = json.loads((training.run.folder / "preflight.json").read_text())
    assert len(record["checks"]) == 10
    assert record["seconds"] < 20
    assert not list(training.run.folder.glob(".tmp-*"))


def test_it_is_made_once_in_a_run_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_of(data, tmp_path / "run")
    check(training)
    monkeypatch.setattr(preflight, "Preflight", None)
    check(training)


def test_the_two_sides_of_a_pair_may_together_be_longer_than_an_encoder(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", **SHAPES["encoder-decoder"])
    (folder / "preflight.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["markup"]["max_tokens"] = 8  # each turn of a pair has 6 ids, and both together have 11
    (folder / "config.json").write_text(json.dumps(config))
    check(loop.Training(Run.read(folder), threading.Event()))


# A plant changes the code or the network so that it has a certain bug.
Plant = Callable[[pytest.MonkeyPatch, PreTrainedModel], None]


def collating(change: Callable[[Batch], Batch]) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
        original = batches.collate
        monkeypatch.setattr(batches, "collate", lambda rows, **kwargs: change(original(rows, **kwargs)))

    return plant


def reading(change: Callable[[Batch], Batch], after: Callable[[Tensor], Tensor] = lambda h: h) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
        original = networks.hidden_states
        monkeypatch.setattr(
            networks, "hidden_states", lambda model, batch: after(original(model, change(batch)))
        )

    return plant


def shifted_twice(batch: Batch) -> Batch:
    targets = torch.full_like(batch.targets_BT, NO_LOSS)
    targets[:, :-1] = batch.targets_BT[:, 1:]
    return replace(batch, targets_BT=targets)


def not_shifted(batch: Batch) -> Batch:
    has_target = batch.targets_BT != NO_LOSS
    return replace(batch, inputs_BT=torch.where(has_target, batch.targets_BT, batch.inputs_BT))


def ends_masked(batch: Batch) -> Batch:
    return replace(batch, targets_BT=batch.targets_BT.masked_fill(batch.targets_BT == END, NO_LOSS))


def pads_counted(batch: Batch) -> Batch:
    return replace(batch, targets_BT=batch.targets_BT.masked_fill(batch.inputs_BT == PAD, PAD))


def context_counted(batch: Batch) -> Batch:
    return replace(batch, targets_BT=networks.next_ids(batch))


def pads_attended(batch: Batch) -> Batch:
    assert batch.context_mask_BS is not None
    return replace(batch, context_mask_BS=torch.ones_like(batch.context_mask_BS))


def encoder_unread(batch: Batch) -> Batch:
    assert batch.context_BS is not None
    return replace(batch, context_BS=torch.full_like(batch.context_BS, 5))


def no_causal_mask(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
    monkeypatch.setattr(cpu_block, "math", SimpleNamespace(inf=0.0))


def counted_per_batch(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
    original = step.weighted_nats

    def mean(*args: Tensor) -> tuple[Tensor, ...]:
        total, *rest = original(*args)
        return total / len(args[2]), *rest

    monkeypatch.setattr(step, "weighted_nats", mean)


def divided_by_nothing(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
    def differentiate(self: step.GradientStep, part: Batch, tokens: int) -> Tensor:
        total, nats_N, hits_N, is_reply_N = self.forward(part)
        (total / torch.tensor(tokens)).backward()  # type: ignore[no-untyped-call]
        return torch.stack([nats_N.sum(), hits_N.sum(), is_reply_N.sum()])

    monkeypatch.setattr(step.GradientStep, "differentiate", differentiate)


def frozen(_: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)


def wild(_: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    with torch.no_grad():
        networks.lm_head(model).weight.mul_(100)


def half_saved(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
    original = networks.save

    def save(model: PreTrainedModel, folder: Path) -> None:
        with torch.no_grad():
            next(model.parameters()).mul_(0.5)
            original(model, folder)
            next(model.parameters()).mul_(2)

    monkeypatch.setattr(networks, "save", save)


def pad_is_end(monkeypatch: pytest.MonkeyPatch, _: PreTrainedModel) -> None:
    monkeypatch.setattr(tokenizer, "DEFAULT_SPECIAL_TOKENS", tokenizer.SpecialTokens(end=PAD))


PLANTS: list[tuple[str, str, str, Plant]] = [
    ("shifted twice", "llama", "targets: row 0: a target is shifted", collating(shifted_twice)),
    ("not shifted", "llama", "targets: row 0: a target is shifted", collating(not_shifted)),
    ("the end of a reply masked", "llama", "targets: the .* of row 0 are not", collating(ends_masked)),
    ("padding counted", "llama", "targets: the .* of row . are not", collating(pads_counted)),
    ("context counted", "llama", "targets: the .* of row 0 are not", collating(context_counted)),
    ("no causal mask", "llama", "causality: the tokens from position", no_causal_mask),
    (
        "input not read",
        "llama",
        "causality: the network ignores its input",
        reading(lambda b: replace(b, inputs_BT=b.inputs_BT * 0 + 5)),
    ),
    ("rows mixed", "llama", "padding: the loss of row", reading(lambda b: b, lambda h: h - h.mean(0))),
    ("padding attended", "encoder-decoder", "padding: the loss of row", collating(pads_attended)),
    ("encoder unread", "encoder-decoder", "context: .*encoder is not used", reading(encoder_unread)),
    ("mean of means", "gpt2", "loss: ", counted_per_batch),
    ("wild weights", "gpt2", "first loss: ", wild),
    ("divided by nothing", "llama", "batch without a reply: ", divided_by_nothing),
    ("frozen", "llama", "one batch learnt: ", frozen),
    ("half saved", "llama", "saved and loaded: the loaded network", half_saved),
    ("pad is end", "llama", "control tokens: ", pad_is_end),
]


@pytest.mark.parametrize(
    ("family", "finding", "plant"), [plant[1:] for plant in PLANTS], ids=[p[0] for p in PLANTS]
)
def test_a_planted_defect_is_caught_by_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, finding: str, plant: Plant
) -> None:
    training = training_of(data, tmp_path / "run", family)
    plant(monkeypatch, training.model)
    with pytest.raises(preflight.Defect, match=f"^preflight: {finding}"):
        check(training)
    assert not (training.run.folder / "preflight.json").exists()


def test_a_table_of_another_size_is_caught(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = networks.build
    monkeypatch.setattr(
        networks, "build", lambda config, size, positions: original(config, size + 5, positions)
    )
    training = training_of(data, tmp_path / "run")
    with pytest.raises(
        preflight.Defect, match="control tokens: 20 tokens, but 25 rows in the output embedding"
    ):
        check(training)


def test_weights_that_have_learnt_may_begin_below_a_guess_but_not_above(data: Path, tmp_path: Path) -> None:
    training = training_of(data, tmp_path / "run")
    for _ in range(5):
        for rows in training.order:
            training.train_step(rows, 1e-2)
    training.run = replace(training.run, start=tmp_path)
    check(training)
    wild(pytest.MonkeyPatch(), training.model)
    (training.run.folder / "preflight.json").unlink()
    with pytest.raises(preflight.Defect, match=r"first loss: .* the initial model does not match"):
        check(training)


def test_a_defect_ends_the_trainer_with_status_3_and_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run_folder(data, tmp_path / "run", network=NETWORK)
    (folder / "preflight.json").unlink()
    collating(shifted_twice)(monkeypatch, None)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["training", str(folder)])
    monkeypatch.setattr(trainer, "stop_on_signals", lambda _, **__: [])
    with caplog.at_level(logging.INFO):
        assert trainer.main() == 3
    assert caplog.records[-1].getMessage().startswith("training: preflight: targets: ")
    assert not (folder / "model").exists()
    assert math.isinf(TrainingState().best_bpb)
