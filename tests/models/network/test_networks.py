import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from models.data.batches import Batch, Row, collate
from models.errors import InputError
from models.network import networks
from models.network.config import NetworkConfig
from models.text.tokenizer import END, PAD, START
from models.training.config import TrainConfig
from models.training.optimizer import Optimizer

FAMILIES = ["llama", "gpt2", "encoder-decoder"]
VOCABULARY, POSITIONS = 40, 24


def build(family: Any, *, vocabulary: int = VOCABULARY, dropout: float = 0.0, loud: bool = False) -> Any:
    torch.manual_seed(0)
    config = NetworkConfig(family=family, n_layer=2, n_head=2, width=32, dropout=dropout)
    model = networks.build(config, vocabulary, POSITIONS)
    if loud:  # weights so large that a token at any position visibly changes the logits
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(8 if parameter.ndim > 1 else 1)
    return model


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pair(context: list[int], reply: list[int]) -> Row:
    ids = [START, *context, END, *reply, END]
    flags = [i >= len(context) + 2 for i in range(len(ids))]
    return np.array(ids, np.int64), np.array(flags)


def replies(model, batch):
    has_target_BT = batch.targets_BT >= 0
    hidden_ND = networks.hidden_states(model, batch)[has_target_BT]
    return networks.lm_head(model)(hidden_ND), batch.targets_BT[has_target_BT]


def batch_of(family: str, *rows: Row) -> Batch:
    return collate(rows, has_encoder=family == "encoder-decoder")


def loss_of(model: Any, batch: Batch) -> torch.Tensor:
    logits_NV, targets_N = replies(model, batch)
    return F.cross_entropy(logits_NV, targets_N)


def decoder_of(model: Any) -> Any:
    return model.decoder if networks.is_encoder_decoder(model) else model


def test_one_head_over_our_vocabulary_is_the_tokens_own_table_but_for_llama(family: str) -> None:
    decoder = decoder_of(build(family))
    head = networks.lm_head(decoder)
    assert (head.weight is decoder.get_input_embeddings().weight) == (family != "llama")
    assert head.weight.shape[0] == VOCABULARY
    assert [name for name, _ in decoder.named_modules() if name.endswith("lm_head")] == ["lm_head"]


def test_logits_are_made_where_the_loss_is_and_are_as_many_as_the_vocabulary(family: str) -> None:
    rows = [pair([5, 6], [7]), pair([5], [6, 7, 8])]
    logits_NV, targets_N = replies(build(family), batch_of(family, *rows))
    assert logits_NV.shape == (6, VOCABULARY)
    assert targets_N.tolist() == [7, END, 6, 7, 8, END]


def test_the_first_loss_is_that_of_a_guess(family: str) -> None:
    rng = np.random.default_rng(0)
    rows = [pair(rng.integers(4, 1000, 5).tolist(), rng.integers(4, 1000, 8).tolist()) for _ in range(8)]
    loss = loss_of(build(family, vocabulary=1000), batch_of(family, *rows))
    assert float(loss.detach()) == pytest.approx(math.log(1000), abs=0.1)


def test_a_place_sees_nothing_that_comes_after_it(family: str) -> None:
    model = build(family, loud=True).eval()
    batch = batch_of(family, pair([5, 6], [7, 8, 9, 10]))
    changed = replace(batch, inputs_BT=batch.inputs_BT.clone())
    changed.inputs_BT[0, -2] = 11
    same = networks.hidden_states(model, batch), networks.hidden_states(model, changed)
    torch.testing.assert_close(same[0][:, :-2], same[1][:, :-2])
    assert not torch.allclose(same[0][:, -2:], same[1][:, -2:])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_stands_beside_a_row_in_its_batch_does_not_change_its_logits(
    family: str, attention: str
) -> None:
    model = build(family, loud=True).eval()
    model.set_attn_implementation(attention)
    short, long = pair([5, 6], [7, 8]), pair([5, 6, 9, 10, 11], [12, 13, 14, 15, 16])
    alone, _ = replies(model, batch_of(family, short))
    beside, _ = replies(model, batch_of(family, short, long))
    torch.testing.assert_close(alone, beside[: len(alone)], atol=1e-4, rtol=1e-4)


def test_an_encoder_reads_its_context_in_both_directions() -> None:
    model = build("encoder-decoder", loud=True).eval()

    def first_position(context: list[int]) -> Any:
        return model.encoder(input_ids=torch.tensor([context])).last_hidden_state[0, 0]

    assert not torch.allclose(first_position([START, 5, 6, END]), first_position([START, 5, 7, END]))
    assert not hasattr(model.encoder, "pooler") or model.encoder.pooler is None


def test_the_shift_is_made_once_and_as_transformers_makes_it() -> None:
    model = build("gpt2", loud=True).eval()
    ids, flags = pair([5, 6, 7], [8, 9])
    ours = loss_of(model, batch_of("gpt2", (ids, flags)))
    labels = torch.tensor(np.where(flags, ids, -100))[None]
    theirs = model(input_ids=torch.tensor(ids)[None], labels=labels).loss
    torch.testing.assert_close(ours, theirs)


def test_a_batch_without_a_reply_has_a_finite_loss_and_gradient(family: str) -> None:
    model = build(family)
    ids = np.array([START, 5, 6, END], np.int64)
    logits_NV, targets_N = replies(model, batch_of(family, (ids, np.zeros(4, bool))))
    nats = F.cross_entropy(logits_NV, targets_N, reduction="sum") / max(1, len(targets_N))
    nats.backward()  # type: ignore[no-untyped-call]
    assert float(nats.detach()) == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_network_learns_one_batch_by_heart(family: str, optimizer: Any) -> None:
    model = build(family)
    rng = np.random.default_rng(1)
    rows = [pair(rng.integers(4, 40, 4).tolist(), rng.integers(4, 40, 5).tolist()) for _ in range(6)]
    batch = batch_of(family, *rows)
    muon_or_adamw = Optimizer(model, TrainConfig(optimizer=optimizer))
    for _ in range(80):
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
        muon_or_adamw.step(1e-2)
    assert float(loss_of(model, batch).detach()) < 0.1


def test_shuffling_the_contexts_makes_a_trained_encoder_decoder_worse() -> None:
    model = build("encoder-decoder", vocabulary=12)
    rng = np.random.default_rng(2)
    optimizer = Optimizer(model, TrainConfig(optimizer="muon"))

    def copies(n: int) -> Batch:
        words = rng.integers(4, 12, n).tolist()
        return batch_of("encoder-decoder", *[pair([word] * 3, [word] * 2) for word in words])

    for _ in range(60):
        loss_of(model, copies(32)).backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-2)
    batch = copies(64)
    assert batch.context_BS is not None
    assert batch.context_mask_BS is not None
    shuffled = replace(batch, context_BS=batch.context_BS.roll(7, 0))
    with torch.no_grad():
        right, wrong = float(loss_of(model, batch)), float(loss_of(model, shuffled))
    assert right < 0.3
    assert wrong > right + 1


def test_a_saved_network_gives_the_same_logits(family: str, tmp_path: Path, capfd: Any) -> None:
    model = build(family, loud=True, dropout=0.5)
    model.set_attn_implementation("eager")
    networks.save(model, tmp_path)
    loaded = networks.load(tmp_path)
    assert not loaded.training
    batch = batch_of(family, pair([5, 6], [7, 8]), pair([9], [10]))
    before, after = (replies(m, batch)[0] for m in (model.eval(), loaded))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)
    decoder = decoder_of(loaded)
    assert (networks.lm_head(loaded).weight is decoder.get_input_embeddings().weight) == (family != "llama")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert '"_attn' not in (tmp_path / "config.json").read_text()
    assert capfd.readouterr() == ("", "")


def test_the_control_ids_are_ours_in_every_config(family: str, tmp_path: Path) -> None:
    networks.save(build(family), tmp_path)
    for name in ("config.json", "generation_config.json"):
        config = json.loads((tmp_path / name).read_text())
        assert [config[f"{kind}_token_id"] for kind in ("pad", "bos", "eos")] == [PAD, START, END]
        if family == "encoder-decoder":
            assert config["decoder_start_token_id"] == START


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformers_opens_the_folder_without_our_code(family: str, tmp_path: Path) -> None:
    model = build(family, loud=True).eval()
    networks.save(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    ids = torch.tensor([[START, 5, 6, END]])
    torch.testing.assert_close(theirs(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    networks.save(build("gpt2"), folder)
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_network_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        networks.load(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "t5"}', '{"model_type": ["gpt2"]}'])
def test_a_config_of_another_kind_is_refused(saved: Path, tmp_path: Path, content: str) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        networks.load(folder)


@pytest.mark.parametrize("keep", [0, 100, -5])
def test_torn_weights_are_refused_in_one_line(saved: Path, tmp_path: Path, keep: int) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match="no complete network") as caught:
        networks.load(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_embd": 64}))
    with pytest.raises(InputError, match="no complete network"):
        networks.load(folder)


def test_code_beside_a_network_is_never_run(saved: Path, tmp_path: Path) -> None:
    folder, canary = shutil.copytree(saved, tmp_path / "copy"), tmp_path / "canary"
    (folder / "evil.py").write_text(f"open({str(canary)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    evil = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    more = {"auto_map": evil, "_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel"}
    (folder / "config.json").write_text(json.dumps({**config, **more}))
    assert networks.load(folder).config._attn_implementation == "sdpa"
    assert not canary.exists()
