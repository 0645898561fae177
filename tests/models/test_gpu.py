"""On a GPU each tensor must be where its partners are, and a recorded step may wait for nothing.

No GPU is needed to see either: torch's fake tensors hold nothing, claim to be on a device, meet those of
another with an error, and cannot be asked for what they hold.
"""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import killings
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from trainings import NETWORK, examples

from models import networks, preflight
from models.batches import Examples
from models.config import NetworkConfig, TrainConfig
from models.step import Step

GPU = "gpu:0"


def network() -> Any:
    made = networks.build(NetworkConfig(**NETWORK), 20, 16)
    for module in made.modules():  # which `to` does not do with fake tensors
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(torch.empty_like(weight, device=GPU))
        for name, values in module._buffers.items():
            if values is not None:
                module._buffers[name] = torch.empty_like(values, device=GPU)
    return made


def pretend(work: Callable[[], None]) -> None:
    """`work` where there is such a device: in a process of its own, for torch never forgets one."""
    _setup_privateuseone_for_python_backend("gpu")
    Tensor.pin_memory = lambda self: self  # type: ignore[method-assign, assignment]
    torch.autocast = lambda *_, **__: nullcontext()  # type: ignore[misc, assignment]
    with FakeTensorMode(allow_non_fake_inputs=True):
        work()


def learn() -> None:
    """A packed step and its update, which is what is recorded."""
    table = Examples(examples(40, 0, "train"))
    for context_loss, precision in product((0.0, 0.5), ("fp32", "bf16")):
        config = TrainConfig(batch_tokens=256, context_loss=context_loss)
        step = Step(network(), table, config, workers=1, is_packed=True)
        step.precision = precision
        told = step.differentiate(step.batch(np.arange(30)), torch.full((), 90.0, device=GPU))
        assert told.device == torch.device(GPU)
        assert all(p.grad is not None and p.grad.device == told.device for p in step.model.parameters())
        step.update(1e-3)


def look() -> None:
    """What preflight reads of the network."""
    made = object.__new__(preflight.Preflight)
    made.model, made.has_encoder = network(), False
    made.rows = [Examples(examples(40, 0, "train")).row(i) for i in range(4)]
    assert made.logits(made.batch()).device.type == "cpu"


@pytest.mark.parametrize("work", [learn, look])
def test_all_that_works_together_is_on_the_gpu(work: Callable[[], None]) -> None:
    made = killings.start_apart(pretend, work)
    made.join(60)
    assert made.exitcode == 0
