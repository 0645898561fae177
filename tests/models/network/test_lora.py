"""Adapters train a pretrained network with few weights, and the published network has no adapters."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from llamas import gradients, network
from safetensors.torch import load_file
from trainings import StopAt, timeless, train, weights
from transformers import AutoModelForCausalLM

from models.data.schemas import EXAMPLES
from models.errors import InputError
from models.network import lora, networks
from models.network.llama import cpu_block
from models.text import tokenizer
from models.training import trainer

Pretrained = Callable[..., Path]


def test_our_own_pass_through_the_network_reads_them() -> None:
    model = network()
    reference_BTD = cpu_block.hidden_states(model, torch.ones(1, 5, dtype=torch.long), torch.float32)
    lora.add_adapters(model, 3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids_BT = torch.randint(0, 40, (3, 11))
    theirs_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    ours_BTD = cpu_block.hidden_states(model, ids_BT, torch.float32)
    torch.testing.assert_close(ours_BTD, theirs_BTD, rtol=1e-4, atol=1e-4)
    theirs, ours = gradients(model, theirs_BTD), gradients(model, ours_BTD)
    assert ours.keys() == theirs.keys() and all("lora" in name for name in ours)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).abs().max() / gradient.abs().max() < 1e-3, name
    whole: Any = lora.merge(model)
    merged_BTD = cpu_block.hidden_states(whole, ids_BT, torch.float32)
    torch.testing.assert_close(merged_BTD, theirs_BTD, rtol=1e-3, atol=1e-3)
    assert not lora.has_adapters(whole) and lora.has_adapters(model)
    assert not torch.allclose(
        cpu_block.hidden_states(model, torch.ones(1, 5, dtype=torch.long), torch.float32), reference_BTD
    )


def rows(split: str, count: int) -> pa.Table:
    rng = np.random.default_rng(len(split))
    records = []
    for number in range(count):
        turn = rng.integers(10, 30, rng.integers(2, 5)).tolist()
        ids = [2, *turn, 3, *turn, 3]
        example = {"ids": ids, "is_reply": [position > len(turn) + 1 for position in range(len(ids))]}
        columns = {"conversation_id": str(number), "turn": 1, "group": "g", "split": split}
        records.append({**example, **columns, "replies": 1, "reply_bytes": len(turn), "spelled_nats": 0.0})
    return pa.Table.from_pylist(records, EXAMPLES)


def run_of(start: Path, folder: Path, **train_: Any) -> Path:
    (folder / "examples").mkdir(parents=True)
    for split, count in (("train", 120), ("validation", 20)):
        pq.write_table(rows(split, count), folder / "examples" / f"{split}.parquet")
    vocabulary = folder / "tokenizer"
    shutil.copytree(start, vocabulary, ignore=shutil.ignore_patterns("*.safetensors", "*config.json"))
    learnt = tokenizer.load(start)
    tokenizer.save(learnt, [1.0] * 257, vocabulary)
    end = learnt.token_to_id("<|im_end|>")
    (vocabulary / "control.json").write_text(json.dumps({"end": end, "banned": []}))
    config = {
        "network": {"family": "pretrained"},
        "train": {
            **{"optimizer": "adamw", "learning_rate": 1e-2, "batch_tokens": 256, "max_epochs": 4},
            **{"lora_rank": 4, "log_every": 1, "warmup_steps": 2, **train_},
        },
        "markup": {"unit": "conversation", "max_tokens": 64},
        "normalisation": "plain",
        "tokenizer": str(vocabulary),
        "examples": str(folder / "examples"),
        "start": str(start),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "precision.json").write_text(json.dumps({"precision": "fp32"}))
    return folder


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_training_of_adapters_learns_and_publishes_a_plain_network(
    pretrained: Pretrained, tmp_path: Path, family: str
) -> None:
    start = pretrained(tmp_path / "start", family=family)
    whole = run_of(start, tmp_path / "whole")
    assert train(whole)  # including preflight
    losses = [line["loss"] for line in timeless(whole) if line["kind"] == "step"]
    assert losses[-1] < losses[0] - 0.1
    newest = sorted((whole / "checkpoints").iterdir())[-1]
    assert all("lora" in name for name in load_file(newest / "model.safetensors"))
    published, had = (load_file(folder / "model.safetensors") for folder in (whole / "model", start))
    assert published.keys() == had.keys()
    for name, weight in published.items():
        change = (weight - had[name]).float()
        is_matrix = change.ndim == 2 and not any(table in name for table in ("embed", "wte", "wpe", "head"))
        assert torch.linalg.matrix_rank(change, atol=1e-4) <= 4 if is_matrix else not change.any(), name
    assert any(not torch.equal(published[name], had[name]) for name in published)
    AutoModelForCausalLM.from_pretrained(whole / "model")

    cut = run_of(start, tmp_path / "cut")
    assert not trainer.train(cut, StopAt(5))
    assert train(cut)
    assert weights(cut) == weights(whole)


def test_they_are_for_a_pretrained_network_and_need_peft(
    pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(pretrained(tmp_path / "start"), tmp_path / "run")
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"train.lora_rank needs peft: pip install .*finetune"):
        train(run)
    config = json.loads((run / "config.json").read_text())
    config["network"] = {"n_layer": 1, "n_head": 2, "width": 16}
    del config["start"]
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=r"network.family is llama, but adapters need a pretrained network; give --set"
    ):
        train(run)


def test_a_network_without_any_is_saved_as_it_is(tmp_path: Path) -> None:
    model = network()
    assert not lora.has_adapters(model)
    networks.save(model, tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
