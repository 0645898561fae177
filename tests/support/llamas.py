"""Small Llama networks with weights far from the usual initial values, and gradients of these networks."""

from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 40


def network(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**{"vocab_size": VOCABULARY, **sizes, **changes})).train()
    for parameter in model.parameters():
        # The weights are larger than the usual initial values. With small weights, errors would go unnoticed.
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim > 1 else 1.0)
    return model


def gradients(model: LlamaForCausalLM, hidden_BTD: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    (hidden_BTD * torch.randn_like(hidden_BTD)).sum().backward()
    by_name = {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return by_name
