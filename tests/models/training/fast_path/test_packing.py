"""Packed steps have the same gradients as padded batches, and all packed steps have the same few shapes."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainings import StopAt, examples, run_folder, timeless, train, weights
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from models.data.batches import Examples
from models.data.schemas import SILENT
from models.devices import FAST_PATH, STANDARD_PATH, FastPath
from models.network.llama import cpu_block, packed_block
from models.training import trainer
from models.training.config import TrainConfig
from models.training.fast_path import choice, packing
from models.training.fast_path.packing import Packed, Packing
from models.training.loop import Training
from models.training.run_folder import Run
from models.training.step import GradientStep

SHAPES = [
    pytest.param({}, id="as many key heads as query heads"),
    pytest.param({"num_key_value_heads": 2}, id="two query heads per key head"),
    pytest.param({"num_key_value_heads": 1, "head_dim": 10}, id="heads that do not add up to the width"),
]
CPU = torch.device("cpu")


def network(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**{"vocab_size": 20, **sizes, **changes})).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim > 1 else 1.0)
    return model


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    by_name = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return by_name


def assert_alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        error = (ours[name] - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-4, name


@pytest.mark.parametrize("shape", SHAPES)
def test_each_sequence_has_the_hidden_states_and_gradients_that_it_has_alone(shape: dict[str, Any]) -> None:
    model = network(**shape)
    rows = [torch.randint(0, 20, (length,)) for length in (3, 1, 7, 5)]
    alone_ND = torch.cat([model.model(input_ids=row[None]).last_hidden_state[0] for row in rows])
    mix_ND = torch.randn_like(alone_ND)
    (alone_ND * mix_ND).sum().backward()
    expected = gradients(model)
    within_N = torch.cat([torch.arange(len(row)) for row in rows])
    offsets_C = torch.tensor([0, 3, 4, 11, 16, 16, 16], dtype=torch.int32)
    packed_ND = packed_block.hidden_states(
        model, torch.cat(rows), within_N, offsets_C, 7, torch.float32, FAST_PATH
    )
    torch.testing.assert_close(packed_ND, alone_ND, rtol=1e-4, atol=1e-4)
    (packed_ND * mix_ND).sum().backward()
    assert_alike(gradients(model), expected)


def test_a_block_is_traced_as_one_graph() -> None:
    model = network()
    block = torch.compile(packed_block._block, backend="eager", fullgraph=True, dynamic=False)
    freqs_cis_N1P2 = torch.view_as_real(cpu_block.rope_table(16, 6, 1e4))
    matrices = cpu_block.matrices(model.model.layers[0], 6, torch.float32)
    offsets_C = torch.tensor([0, 9, 16], dtype=torch.int32)
    given_ = (torch.randn(16, 24), matrices, freqs_cis_N1P2, offsets_C, 9, 4, 1e-6, packed_block._attend)
    torch.testing.assert_close(block(*given_), packed_block._block(*given_))


@pytest.mark.parametrize("context_loss", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rows", [range(30), range(3)], ids=["a full step", "a short one"])
def test_a_step_leaves_the_gradient_and_figures_of_a_padded_one(context_loss: float, rows: range) -> None:
    table = Examples(examples(40, 0, "train"))
    config = TrainConfig(batch_tokens=256, context_loss=context_loss)
    steps = [
        GradientStep(network(), table, config, workers=1, path=path) for path in (STANDARD_PATH, FAST_PATH)
    ]
    (expected, theirs), (step_sums, ours) = (
        (step.gradient(np.array(rows), seed=0), gradients(step.model)) for step in steps
    )
    torch.testing.assert_close(step_sums, expected, rtol=1e-4, atol=1e-4)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("context_loss", [0.0, 0.5])
def test_the_ids_of_a_system_text_carry_no_loss_in_a_packed_step_either(context_loss: float) -> None:
    rows, config = np.arange(30), TrainConfig(batch_tokens=256, context_loss=context_loss)
    heard = examples(40, 0, "train")
    silent = heard.append_column(SILENT, pa.array([2] * 40, SILENT.type))

    def gradient(table: pa.Table, path: FastPath) -> dict[str, torch.Tensor]:
        step = GradientStep(network(), Examples(table), config, workers=1, path=path)
        step.gradient(rows, seed=0)
        return gradients(step.model)

    padded = gradient(silent, STANDARD_PATH)
    assert_alike(gradient(silent, FAST_PATH), padded)
    others = gradient(heard, STANDARD_PATH)
    is_equal = all(torch.equal(padded[name], others[name]) for name in others)
    assert is_equal == (context_loss == 0.0), "only the loss of the context changes"


def test_in_parts_the_gradient_is_the_same() -> None:
    table = Examples(examples(40, 0, "train"))
    step = GradientStep(network(), table, TrainConfig(batch_tokens=256), workers=1, path=FAST_PATH)
    expected, whole = step.gradient(np.arange(30), seed=0), gradients(step.model)
    step.parts = 3
    step_sums, in_parts = step.gradient(np.arange(30), seed=0), gradients(step.model)
    torch.testing.assert_close(step_sums, expected, rtol=1e-4, atol=1e-4)
    assert_alike(in_parts, whole)
    part = step.batch(np.arange(10))
    assert isinstance(part, Packed) and part.positions < 256


def test_rows_for_which_room_is_made_teach_all_that_they_have_to() -> None:
    table = Examples(examples(40, 0, "train"))
    rows, config = np.arange(30), TrainConfig(batch_tokens=16)
    step = GradientStep(network(), table, config, workers=1, path=FAST_PATH)
    assert step.packing is not None
    step.packing.grow(rows)
    step_sums, ours = step.gradient(rows, seed=0), gradients(step.model)
    padded = GradientStep(network(), table, config, workers=1, path=STANDARD_PATH)
    torch.testing.assert_close(step_sums, padded.gradient(rows, seed=0), rtol=1e-4, atol=1e-4)
    assert_alike(ours, gradients(padded.model))


@pytest.mark.parametrize(
    ("shape", "takes"),
    [
        ({"head_dim": 8}, True),
        ({"head_dim": 10}, False),
        ({"head_dim": 264}, False),
        ({"head_dim": 8, "attention_dropout": 0.1}, False),
    ],
)
def test_networks_that_the_gpus_kernel_does_not_take_are_not_packed(
    shape: dict[str, Any], takes: bool
) -> None:
    assert packing.fits_kernel(network(**shape)) == takes


class Rows(Examples):
    """Rows of the given lengths; the second half of each row is the reply."""

    def __init__(self, lengths: list[int]) -> None:
        self.starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.ids = np.arange(self.starts[-1], dtype=np.uint32)
        halves = [np.arange(length) >= (length + 1) // 2 for length in lengths]
        self.is_reply = np.concatenate(halves)


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=200), st.integers(1, 300), st.sampled_from([0.0, 0.5])
)
def test_an_epoch_has_each_row_once_and_every_batch_finds_room(
    lengths: list[int], positions: int, context_loss: float
) -> None:
    packer = Packing(Rows(lengths), positions, context_loss, CPU)
    epoch = packer.epoch_batches(seed=3, epoch=1)
    assert sorted(np.concatenate(epoch)) == list(range(len(lengths)))
    for rows in epoch:
        packed = packer.pack(rows)
        offsets = packed.offsets_C.numpy()
        sizes = np.diff(offsets)
        assert offsets[0] == 0 and offsets[-1] == packed.positions
        assert (sizes >= 0).all() and sizes.max() <= packer.longest
        assert packed.positions <= packer.capacity.positions + packing.NUM_SHAPES
        there = packed.starts_C.numpy() >= 0
        assert there.sum() == len(rows)
        assert sizes[there].tolist() == (np.array(lengths)[rows] - 1).tolist()
        teaching = packer.lengths[rows] if context_loss else packer.replies[rows]
        assert teaching.sum() <= packer.capacity.loss_positions


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not() -> None:
    packer = Packing(Rows([5, 9, 3, 4] * 30), 64, 0.0, CPU)
    first, again, other, later = (
        [rows.tolist() for rows in packer.epoch_batches(seed=seed, epoch=epoch)]
        for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert first == again
    assert other != first != later


def test_nearly_all_positions_of_a_packed_step_hold_tokens() -> None:
    lengths = np.random.default_rng(0).integers(5, 120, 4000).tolist()
    packer = Packing(Rows(lengths), 8192, 1.0, CPU)
    epoch = packer.epoch_batches(seed=0, epoch=0)
    useful = sum(int(packer.lengths[rows].sum()) for rows in epoch[:-1])
    assert useful > 0.97 * packer.capacity.positions * (len(epoch) - 1)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make training use the fast path on every device, as if the proof had succeeded."""
    monkeypatch.setattr(choice, "choose_path", lambda *_: FAST_PATH)


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_training_that_goes_on_with_the_other_batches_begins_its_epoch_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    """Batches change like this if a run without a GPU resumes on a machine with a GPU, or the reverse."""

    def pack(is_packed: bool) -> None:
        monkeypatch.setattr(choice, "choose_path", lambda *_: FAST_PATH if is_packed else STANDARD_PATH)

    folder = run_folder(data, tmp_path / "run", batch_tokens=256 if is_packed else 64)
    pack(is_packed)
    before_stop = Training(Run.read(folder), threading.Event())
    last = len(before_stop.order) - 1
    assert not trainer.train(folder, StopAt(last))
    pack(not is_packed)
    training = Training(Run.read(folder), threading.Event())
    assert (training.state.step, training.state.batch_index) == (last, 0)
    assert train(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stopped_by"], summary["steps"]) == ("max_epochs", training.num_steps)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("context_loss", [0.0, 0.5])
def test_a_packed_training_learns_and_cut_in_two_ends_in_the_same_bytes(
    data: Path, tmp_path: Path, context_loss: float
) -> None:
    knobs: dict[str, Any] = {"batch_tokens": 128, "context_loss": context_loss, "max_epochs": 12}
    whole = run_folder(data, tmp_path / "whole", **knobs)
    assert train(whole)
    losses = [line["loss"] for line in timeless(whole) if line["kind"] == "step"]
    assert losses[-1] < 0.95 * losses[0]
    cut = run_folder(data, tmp_path / "cut", **knobs)
    assert not trainer.train(cut, StopAt(7))
    assert train(cut)
    assert weights(cut) == weights(whole)
    assert timeless(cut) == timeless(whole)


@pytest.mark.usefixtures("everywhere")
def test_the_preflight_checks_packed_steps(data: Path, tmp_path: Path) -> None:
    folder = run_folder(data, tmp_path / "run", batch_tokens=128, max_steps=1)
    (folder / "preflight.json").unlink()
    assert train(folder)
    assert "loss" in json.loads((folder / "preflight.json").read_text())["checks"]


@pytest.mark.usefixtures("everywhere")
def test_sequences_that_see_each_other_are_caught_by_the_preflight(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import preflight

    folder = run_folder(data, tmp_path / "run", batch_tokens=128)
    (folder / "preflight.json").unlink()
    original = packed_block._attend

    def leaking(*given_: Any) -> torch.Tensor:
        q, k, v, offsets_C, longest = given_
        return original(q, k, v, offsets_C[[0, -1]], longest)

    monkeypatch.setattr(packed_block, "_attend", leaking)
    with torch.no_grad():
        training = Training(Run.read(folder), threading.Event())
        for parameter in training.model.parameters():
            parameter.mul_(8)  # with initial weights, attention changes the hidden states too little
    with pytest.raises(preflight.Defect, match="preflight: loss:"):
        preflight.Preflight(training.model, training.examples, training.run, "fp32", FAST_PATH).loss()
