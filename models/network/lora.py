"""Adapters: a few weights beside the matrices of a pretrained network, trained in their place (LoRA).

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685.
The published network is the merged one: what reads it needs to know of none.
"""

import copy
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from models.errors import InputError

SCALE = 2  # of what the adapters add; peft calls it lora_alpha / r


def add(model: PreTrainedModel, rank: int) -> None:
    """Give each matrix inside the blocks adapters of that rank, and freeze all else.

    Raises:
        InputError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise InputError("train.lora_rank needs peft: pip install -c constraints.txt -e '.[finetune]'")
    from peft import LoraConfig, inject_adapter_in_model

    turned = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2's matrices
    asked = LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules="all-linear", fan_in_fan_out=turned)
    inject_adapter_in_model(asked, model)


def weight(linear: nn.Module) -> Tensor:
    """The matrix that a layer multiplies with, what its adapters add included."""
    layer: Any = linear
    whole: Tensor = layer.weight
    for name in getattr(layer, "active_adapters", ()):
        whole = whole + layer.get_delta_weight(name)
    return whole


def are_in(model: nn.Module) -> bool:
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with the adapters added to the matrices, as a network that never had any."""
    whole = copy.deepcopy(model)
    for name, module in list(whole.named_modules()):
        if hasattr(module, "get_delta_weight"):
            layer: Any = module
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(whole.get_submodule(parent), own, layer.get_base_layer())
    del whole.peft_config
    return whole
