"""On a GPU all tensors of an operation must be on one device, and a captured step must not wait for the GPU.

These tests need no GPU, because they use torch's fake tensors. Fake tensors have no data but claim to be on a
device, raise an error if they are combined with tensors of another device, and cannot be read. The
variable-length kernel has no CPU implementation, so the tests use torch's description of its output.
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
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from trainings import NETWORK, examples

from models.data.batches import Examples
from models.devices import FAST_PATH
from models.network import networks
from models.network.config import NetworkConfig
from models.network.llama import cpu_block, packed_block
from models.training import preflight
from models.training.config import TrainConfig
from models.training.state import MetricSums
from models.training.step import GradientStep

GPU = "gpu:0"


def network(family: str = "llama") -> Any:
    model = networks.build(NetworkConfig(**{**NETWORK, "family": family}), 20, 16)
    for module in model.modules():  # `Module.to` does not work with fake tensors
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(torch.empty_like(weight, device=GPU))
        for name, values in module._buffers.items():
            if values is not None:
                module._buffers[name] = torch.empty_like(values, device=GPU)
    return model


class WithoutFloat64(TorchDispatchMode):
    """Fails if an operation returns float64 on the GPU, because Apple's GPUs do not support float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            is_double = isinstance(each, Tensor) and each.dtype == torch.float64
            assert not (is_double and each.device == torch.device(GPU)), f"{func} makes float64"
        return result


def pretend(work: Callable[[], None]) -> None:
    """Run `work` with a fake GPU. Use it only in a separate process: torch never unregisters a device."""
    _setup_privateuseone_for_python_backend("gpu")
    Tensor.pin_memory = lambda self: self  # type: ignore[method-assign, assignment]
    torch.autocast = lambda *_, **__: nullcontext()  # type: ignore[misc, assignment]
    original = Tensor.__getitem__

    def choose(self: Tensor, index: Any) -> Tensor:
        """Select all elements, because the number of true elements of a fake mask cannot be read."""
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            return self.flatten(0, index.ndim - 1)
        return original(self, index)

    Tensor.__getitem__ = choose  # type: ignore[method-assign, assignment]
    with FakeTensorMode(allow_non_fake_inputs=True), WithoutFloat64():
        work()


def learn() -> None:
    """Make a packed step and its update, as the CUDA graph captures them."""
    table = Examples(examples(40, 0, "train"))
    calls = []
    kernel = packed_block.varlen_attn
    packed_block.varlen_attn = lambda *given, **how: calls.append(1) or kernel(*given, **how)  # type: ignore
    for context_loss, precision in product((0.0, 0.5), ("fp32", "bf16")):
        config = TrainConfig(batch_tokens=256, context_loss=context_loss)
        step = GradientStep(network(), table, config, workers=1, path=FAST_PATH)
        step.precision = precision
        step_sums = step.differentiate(step.batch(np.arange(30)), torch.full((), 90.0, device=GPU))
        check(step, step_sums)
        assert bool(calls) == (precision == "bf16")
        calls.clear()


def learn_padded() -> None:
    """Make a step of the standard path, which every GPU must support."""
    table = Examples(examples(40, 0, "train"))
    for family, context_loss in product(("llama", "gpt2", "encoder-decoder"), (0.0, 0.5)):
        config = TrainConfig(batch_tokens=256, context_loss=context_loss)
        step = GradientStep(network(family), table, config, workers=1)
        step_sums = step.differentiate(step.batch(np.arange(30)), 90)
        check(step, step_sums)
        MetricSums([0.0] * 4).add(torch.cat([step_sums, step_sums[:1]]))


def check(step: GradientStep, step_sums: Tensor) -> None:
    assert step_sums.device == torch.device(GPU)
    assert all(p.grad is not None and p.grad.device == step_sums.device for p in step.model.parameters())
    step.update(1e-3)


def check_logits() -> None:
    """Check that the logits which preflight reads come back to the CPU."""
    checks = object.__new__(preflight.Preflight)
    checks.model, checks.has_encoder = network(), False
    checks.rows = [Examples(examples(40, 0, "train")).row(i) for i in range(4)]
    assert checks.logits(checks.batch()).device.type == "cpu"


def varlen_by_mask(*given: Any, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The output of the kernel, as torch documents it, and two outputs that only its backward pass uses."""
    query, key, value, offsets, _, _, longest, is_causal, scale, window = given[:10]
    assert is_causal and list(window) == [-1, 0] and longest >= int(offsets.diff().max())
    share, rows = shares(query, key, offsets, scale)
    output = (share @ rows(value)).transpose(0, 1).to(query.dtype).contiguous()
    return output, query.new_zeros(query.shape[1::-1]).float(), torch.zeros(2, dtype=torch.uint64)


def varlen_backward_by_mask(*given: Any, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
    come, query, key, value, _, _, offsets = given[:7]
    scale = given[12]
    share, rows = shares(query, key, offsets, scale)
    dshare = rows(come) @ rows(value).mT
    dscores = share * (dshare - (dshare * share).sum(-1, keepdim=True)) * scale
    gradients = (dscores @ rows(key), dscores.mT @ rows(query), share.mT @ rows(come))
    dq, dk, dv = (each.transpose(0, 1).to(query.dtype).contiguous() for each in gradients)
    return dq, dk, dv


def shares(query: Tensor, key: Tensor, offsets: Tensor, scale: float) -> tuple[Tensor, Callable[..., Tensor]]:
    """The attention weights between all positions, one matrix per head, and a function that splits heads."""

    def rows(part: Tensor) -> Tensor:
        return part.float().transpose(0, 1)

    positions = torch.arange(len(query))
    sequence = torch.searchsorted(offsets[1:], positions, right=True)
    sees = (sequence[:, None] == sequence) & (positions[:, None] >= positions)
    return (rows(query) @ rows(key).mT * scale).masked_fill(~sees, -torch.inf).softmax(-1), rows


def compile_block() -> None:
    """Check that a block with the kernel compiles to one graph and computes the same as one with a mask."""
    varlen._varlen_attn.register_kernel("cpu")(varlen_by_mask)
    varlen._varlen_attn_backward.register_kernel("cpu")(varlen_backward_by_mask)
    torch.manual_seed(0)
    layer = networks.build(NetworkConfig(n_layer=1, n_head=2, width=16), 20, 16).model.layers[0]
    offsets = torch.tensor([0, 9, 16, 16], dtype=torch.int32)
    turns = torch.view_as_real(cpu_block.rope_table(16, 8, 1e4))
    figures = []
    block = torch.compile(packed_block._block, backend="aot_eager", fullgraph=True, dynamic=False)
    for one, attend in ((packed_block._block, packed_block._attend), (block, packed_block._attend_varlen)):
        torch.manual_seed(1)
        x_ND = torch.randn(16, 16, requires_grad=True)
        weights = [w.detach().requires_grad_() for w in cpu_block.matrices(layer, 8, torch.bfloat16)]
        computed_ND = one(x_ND, tuple(weights), turns, offsets, 9, 2, 1e-6, attend)
        (computed_ND * torch.linspace(-1, 1, 16)).sum().backward()
        figures.append([computed_ND.detach(), *(w.grad for w in (x_ND, *weights))])
    for with_mask, with_kernel in zip(*figures, strict=True):
        assert (with_kernel - with_mask).norm() < 0.02 * with_mask.norm()


def test_a_block_with_the_kernel_in_it_is_compiled_as_one_graph() -> None:
    process = killings.start_apart(compile_block)
    process.join(300)
    assert process.exitcode == 0


@pytest.mark.parametrize("work", [learn, learn_padded, check_logits])
def test_all_that_works_together_is_on_the_gpu(work: Callable[[], None]) -> None:
    process = killings.start_apart(pretend, work)
    process.join(300)
    assert process.exitcode == 0
