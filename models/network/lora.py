"""LoRA adapters: low-rank matrices that are trained instead of a pretrained network's own matrices.

The method is described by Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
https://arxiv.org/abs/2106.09685. When a network is saved, its adapters are merged into its matrices.
"""

import copy
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from models.errors import InputError

SCALE = 2  # factor of the low-rank product of an adapter's matrices; peft calls it lora_alpha / r


def add_adapters(model: PreTrainedModel, rank: int) -> None:
    """Add adapters of this rank to each matrix inside the blocks, and freeze all other weights.

    Raises:
        InputError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise InputError("train.lora_rank needs peft: pip install -c constraints.txt -e '.[finetune]'")
    from peft import LoraConfig, inject_adapter_in_model

    is_transposed = any(isinstance(module, Conv1D) for module in model.modules())  # as in GPT-2
    lora_config = LoraConfig(
        r=rank, lora_alpha=SCALE * rank, target_modules="all-linear", fan_in_fan_out=is_transposed
    )
    inject_adapter_in_model(lora_config, model)


def effective_weight(linear: nn.Module) -> Tensor:
    """The matrix of a linear layer, with the low-rank updates of its adapters added."""
    layer: Any = linear
    matrix: Tensor = layer.weight
    for name in getattr(layer, "active_adapters", ()):
        matrix = matrix + layer.get_delta_weight(name)
    return matrix


def has_adapters(model: nn.Module) -> bool:
    return any(hasattr(module, "get_delta_weight") for module in model.modules())


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the network with the adapters merged into the matrices."""
    merged_model = copy.deepcopy(model)
    for name, module in list(merged_model.named_modules()):
        if hasattr(module, "get_delta_weight"):
            layer: Any = module
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(merged_model.get_submodule(parent), own, layer.get_base_layer())
    del merged_model.peft_config
    return merged_model
