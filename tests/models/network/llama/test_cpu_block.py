from typing import Any

import pytest
import torch
from llamas import VOCABULARY, gradients, network
from transformers import GPT2Config, GPT2LMHeadModel

from models.data.batches import Batch
from models.network import networks
from models.network.config import NetworkConfig
from models.network.llama import cpu_block

SHAPES = [
    pytest.param({}, id="as many key heads as query heads"),
    pytest.param({"num_key_value_heads": 2}, id="two query heads per key head"),
    pytest.param({"num_key_value_heads": 1, "head_dim": 10}, id="heads that do not add up to the width"),
    pytest.param({"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}, id="faster rotation"),
    pytest.param({"rms_norm_eps": 0.3}, id="a large epsilon"),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_hidden_states_and_gradients_are_those_of_transformers(shape: dict[str, Any]) -> None:
    model = network(**shape)
    ids_BT = torch.randint(0, VOCABULARY, (3, 11))
    theirs_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    ours_BTD = cpu_block.hidden_states(model, ids_BT, torch.float32)
    torch.testing.assert_close(ours_BTD, theirs_BTD, rtol=1e-4, atol=1e-4)
    theirs, ours = gradients(model, theirs_BTD), gradients(model, ours_BTD)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        error = (ours[name] - gradient).abs().max() / gradient.abs().max()
        assert error < 1e-4, name


def test_in_bfloat16_they_are_close_to_those_in_float32() -> None:
    model = network()
    ids_BT = torch.randint(0, VOCABULARY, (3, 11))
    exact_BTD, rough_BTD = (
        cpu_block.hidden_states(model, ids_BT, kind) for kind in (torch.float32, torch.bfloat16)
    )
    assert 0 < (exact_BTD - rough_BTD).abs().mean() < 0.05
    exact, rough = gradients(model, exact_BTD), gradients(model, rough_BTD)
    for name, gradient in exact.items():
        similar = torch.cosine_similarity(gradient.flatten(), rough[name].flatten(), dim=0)
        assert similar > 0.99, name
        assert rough[name].dtype == torch.float32


def test_a_batch_of_one_place_has_hidden_states() -> None:
    model = network()
    ids_BT = torch.tensor([[5]])
    theirs_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    torch.testing.assert_close(
        cpu_block.hidden_states(model, ids_BT, torch.float32), theirs_BTD, rtol=1e-4, atol=1e-4
    )


def test_a_network_that_it_would_read_wrongly_is_left_to_transformers() -> None:
    assert cpu_block.supports_cpu_path(network())
    assert not cpu_block.supports_cpu_path(network(attention_bias=True))
    assert not cpu_block.supports_cpu_path(network(mlp_bias=True))
    assert not cpu_block.supports_cpu_path(network(hidden_act="gelu"))
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    assert not cpu_block.supports_cpu_path(network(rope_parameters=scaled))
    assert not cpu_block.supports_cpu_path(
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=9))
    )
    drops = network(attention_dropout=0.1)
    assert not cpu_block.supports_cpu_path(drops)
    assert cpu_block.supports_cpu_path(drops.eval())  # evaluation mode turns dropout off


def test_the_products_are_made_in_the_precision_of_the_autocast() -> None:
    model = networks.build(NetworkConfig(n_layer=1, n_head=2, width=16), VOCABULARY, 32)
    batch = Batch(
        torch.randint(0, VOCABULARY, (2, 5)), torch.zeros(2, 5, dtype=torch.int64), torch.tensor([5, 5])
    )
    reference_BTD = networks.hidden_states(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        cast_BTD = networks.hidden_states(model, batch)
    torch.testing.assert_close(reference_BTD, cpu_block.hidden_states(model, batch.inputs_BT, torch.float32))
    torch.testing.assert_close(cast_BTD, cpu_block.hidden_states(model, batch.inputs_BT, torch.bfloat16))
    assert not torch.equal(reference_BTD, cast_BTD)
