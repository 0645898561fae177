from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from models.network import networks
from models.network.config import NetworkConfig
from models.network.llama.decoder import ForwardDecoder, LlamaDecoder, decoder_of

VOCABULARY, POSITIONS = 30, 20
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}


def network(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, **SMALL, **changes}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    for parameter in model.parameters():
        # With weights as small as initial weights, a wrong weight would not be noticed.
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim > 1 else 1.0)
    return model


def said_by_transformers(model: Any, rows: Sequence[list[int]]) -> Tensor:
    """The logits_BV after each row, computed for each row alone and without a cache."""
    with torch.no_grad():
        return torch.cat([model(torch.tensor([row])).logits[:, -1].float() for row in rows])


def compare(model: Any, contexts: list[list[int]], steps: int, *, tolerance: float = 2e-3) -> None:
    rows = [list(context) for context in contexts]
    with torch.inference_mode():
        logits_BV, advance = decoder_of(model).begin(contexts, steps)
        for step in range(steps + 1):
            alive = [i for i, row in enumerate(rows) if len(row) <= POSITIONS]
            theirs_BV = said_by_transformers(model, [rows[i] for i in alive])
            torch.testing.assert_close(logits_BV[alive], theirs_BV, rtol=tolerance, atol=tolerance)
            if step == steps:
                return
            tokens = [(7 * step + 3 * i) % VOCABULARY for i in range(len(rows))]
            for row, token in zip(rows, tokens, strict=True):
                row.append(token)
            logits_BV = advance(tokens)


@settings(max_examples=20)
@given(
    n_layer=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (2, 2), (4, 4), (4, 2), (6, 3), (4, 1)]),
    head_width=st.sampled_from([2, 6, 8]),
    tied=st.booleans(),
    lengths=st.lists(st.integers(1, POSITIONS), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_the_logits_are_those_of_transformers_to_the_last_position(
    n_layer: int, heads: tuple[int, int], head_width: int, tied: bool, lengths: list[int], seed: int
) -> None:
    model = network(
        seed,
        num_hidden_layers=n_layer,
        hidden_size=24,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        head_dim=head_width,
        tie_word_embeddings=tied,
    )
    contexts = torch.randint(0, VOCABULARY, (len(lengths), POSITIONS)).tolist()
    contexts = [ids[:length] for ids, length in zip(contexts, lengths, strict=True)]
    # The shortest row continues to the last position. Longer rows get there earlier and are then ignored.
    compare(model, contexts, POSITIONS - min(lengths))


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 0.3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
        {"vocab_size": 31, "intermediate_size": 7},
    ],
)
def test_the_logits_follow_the_config(changes: dict[str, Any]) -> None:
    model = network(**changes)
    assert isinstance(decoder_of(model), LlamaDecoder)
    compare(model, [[3, 4, 5], [6]], 6)


def test_weights_in_bfloat16_are_read_in_float32() -> None:
    exact, rough = network(), network().bfloat16()
    compare(rough, [[3, 4, 5], [6]], 6, tolerance=0.3)
    rounded = network()
    rounded.load_state_dict({name: tensor.float() for name, tensor in rough.state_dict().items()})
    with torch.inference_mode():
        ours, _ = decoder_of(rough).begin([[3, 4, 5]], 0)
        torch.testing.assert_close(ours, said_by_transformers(rounded, [[3, 4, 5]]), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(ours, said_by_transformers(exact, [[3, 4, 5]]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("changes", [{"attention_bias": True}, {"mlp_bias": True}, {"hidden_act": "gelu"}])
def test_a_network_of_another_shape_goes_through_its_own_forward(changes: dict[str, Any]) -> None:
    model = network(**changes)
    assert isinstance(decoder_of(model), ForwardDecoder)
    compare(model, [[3, 4, 5], [6]], 6)


def test_dropout_in_the_config_changes_nothing() -> None:
    model = network(attention_dropout=0.5)
    assert isinstance(decoder_of(model.train()), LlamaDecoder)
    compare(model.eval(), [[3, 4, 5]], 4)


def test_two_replies_at_once_do_not_disturb_each_other() -> None:
    model = networks.build(NetworkConfig(n_layer=1, n_head=2, width=16), VOCABULARY, POSITIONS).eval()
    decoder = decoder_of(model)
    with torch.inference_mode():
        _, alone = decoder.begin([[3, 4]], 2)
        expected = [alone([token]).clone() for token in (5, 6)]
        _, first = decoder.begin([[3, 4]], 2)
        met = [first([5]).clone()]
        decoder.begin([[9, 8, 7]], 2)[1]([1])
        met.append(first([6]))
    for ours, theirs in zip(met, expected, strict=True):
        assert torch.equal(ours, theirs)
