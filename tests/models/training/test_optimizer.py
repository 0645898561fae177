from typing import Any

import pytest
import torch

from models.network import networks
from models.network.config import NetworkConfig
from models.training.config import TrainConfig
from models.training.optimizer import Optimizer


def network(family: Any = "llama") -> Any:
    torch.manual_seed(0)
    return networks.build(NetworkConfig(family=family, n_layer=2, n_head=2, width=16), 20, 16)


def give_gradients(model: Any, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)


@pytest.mark.parametrize("family", ["llama", "gpt2", "encoder-decoder"])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_each_parameter_is_one_optimizers(family: Any, kind: Any) -> None:
    model = network(family)
    parts = Optimizer(model, TrainConfig(optimizer=kind)).parts
    taken = [id(p) for part in parts for group in part.param_groups for p in group["params"]]
    assert len(taken) == len(set(taken))
    assert set(taken) == {id(p) for p in model.parameters()}
    assert len(parts) == (3 if kind == "muon" else 1)


@pytest.mark.parametrize("family", ["llama", "gpt2", "encoder-decoder"])
def test_muon_has_the_matrices_of_the_blocks_and_no_table(family: Any) -> None:
    model = network(family)
    halves = Optimizer(model, TrainConfig(optimizer="muon")).parts[1:]
    taken = {id(p) for muon in halves for group in muon.param_groups for p in group["params"]}
    tables = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    tables.add(id(networks.lm_head(model).weight))
    assert not taken & tables
    matrices = {id(p) for p in model.parameters() if p.ndim == 2}
    assert taken == matrices - tables


def test_norms_and_biases_do_not_decay() -> None:
    model = network("gpt2")
    for part in Optimizer(model, TrainConfig(optimizer="adamw", weight_decay=0.3)).parts:
        for group in part.param_groups:
            assert group["weight_decay"] == (0.3 if group["params"][0].ndim == 2 else 0.0)


@pytest.mark.parametrize(("kind", "scale"), [("muon", 4.0), ("adamw", 1.0)])
def test_beside_muon_the_token_table_and_the_head_take_longer_steps(kind: Any, scale: float) -> None:
    model = network()
    optimizer = Optimizer(model, TrainConfig(optimizer=kind))
    give_gradients(model, 1)
    optimizer.step(0.01)
    rates = {
        id(p): group["lr"] for part in optimizer.parts for group in part.param_groups for p in group["params"]
    }
    for table in (model.get_input_embeddings(), networks.lm_head(model)):
        assert rates.pop(id(table.weight)) == pytest.approx(0.01 * scale)
    assert set(rates.values()) == {0.01}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_step_at_rate_0_changes_nothing_and_uses_the_gradients_up(kind: Any) -> None:
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    give_gradients(model, 1)
    Optimizer(model, TrainConfig(optimizer=kind)).step(0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_an_optimizer_goes_on_from_its_tensors_bit_for_bit(kind: Any) -> None:
    config = TrainConfig(optimizer=kind)
    whole, first = network(), network()
    straight, early = Optimizer(whole, config), Optimizer(first, config)
    for seed in range(2):
        for model, optimizer in ((whole, straight), (first, early)):
            give_gradients(model, seed)
            optimizer.step(1e-2)
    late = Optimizer(first, config)
    late.load_tensors({name: tensor.clone() for name, tensor in early.tensors().items()})
    for seed in range(2, 5):
        for model, optimizer in ((whole, straight), (first, late)):
            give_gradients(model, seed)
            optimizer.step(1e-2)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), first.parameters(), strict=True))
