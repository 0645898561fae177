"""The cross-entropy loss from hidden states and an output embedding, without storing all logits at once.

In plain PyTorch on the CPU, computing and copying all logits takes a third of a step's time. Here the
gradients with respect to the hidden states and the embedding are computed slice by slice in the forward pass,
while the slice's logits are in the cache; the backward pass only scales these gradients.

The suffix of a tensor's name gives its shape: N positions, D width, V vocabulary.
"""

import threading
from typing import Any, cast

import torch
from torch import Tensor

from models.network.llama import row_padding

SLICE = 256  # positions in a slice on the CPU: 4 MB of float32 logits with a vocabulary of 4,096
GPU_SLICE_FLOATS = 2**25  # logits in a slice on a GPU, where few large kernels are fastest: 134 MB


def weighted_nats(
    hidden_ND: Tensor, table_VD: Tensor, targets_N: Tensor, weights_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted sum of nats, nats_N and is_likeliest_N; only the weighted sum has a gradient.

    The logits are `hidden_ND @ table_VD.T`, computed in the type of hidden_ND and then converted to float32.
    is_likeliest_N says whether the target is the most likely token; a tie counts, too.
    """
    count = len(hidden_ND)
    rows = row_padding.padded_rows(count, hidden_ND.dtype, hidden_ND.device)
    # The padding rows have weight 0.
    hidden_ND, targets_N, weights_N = (
        row_padding.pad_rows(x_N, rows) for x_N in (hidden_ND, targets_N, weights_N)
    )
    total, nats_N, is_likeliest_N = _LinearCrossEntropy.apply(hidden_ND, table_VD, targets_N, weights_N)  # type: ignore[no-untyped-call]
    return total, nats_N[:count], is_likeliest_N[:count]


_memory = threading.local()


def _buffers(vocabulary: int, device: torch.device) -> Tensor:
    """Two slices of floats, reused by every call: allocating memory would take longer than writing to it."""
    buffers: Tensor | None = getattr(_memory, "floats", None)
    if buffers is None or buffers.shape[2] != vocabulary or buffers.device != device:
        positions = SLICE if device.type == "cpu" else max(SLICE, GPU_SLICE_FLOATS // vocabulary)
        buffers = _memory.floats = torch.empty(2, positions, vocabulary, device=device)
    return buffers


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, table_VD: Tensor, targets_N: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype, table = hidden_ND.dtype, table_VD.to(hidden_ND.dtype)
        dhidden_ND = torch.empty_like(hidden_ND)
        dtable_VD = torch.zeros_like(table_VD) if ctx.needs_input_grad[1] else None  # None if frozen
        nats_N = torch.empty_like(weights_N)
        is_likeliest_N = torch.empty_like(targets_N, dtype=torch.bool)
        floats = _buffers(len(table), table_VD.device)
        for start in range(0, len(hidden_ND), floats.shape[1]):
            part = slice(start, start + floats.shape[1])
            logits, errors = floats[:, : len(hidden_ND[part])]
            if dtype == logits.dtype:
                torch.mm(hidden_ND[part], table.T, out=logits)
            else:
                logits.copy_(torch.mm(hidden_ND[part], table.T))
            targets, weights = targets_N[part, None], weights_N[part, None]
            # max and argmax would also find the index, which takes twenty times as long here as amax alone.
            best, own = logits.amax(dim=-1, keepdim=True), logits.gather(1, targets)
            torch.softmax(logits, dim=-1, out=errors)
            # The target's probability may underflow, but the most likely token's probability never does.
            nats = best - own - errors.amax(dim=-1, keepdim=True).log()
            nats_N[part], is_likeliest_N[part] = nats[:, 0], (own == best)[:, 0]
            errors = errors.mul_(weights).scatter_add_(1, targets, -weights).to(dtype)
            torch.mm(errors, table, out=dhidden_ND[part])
            if dtable_VD is not None:
                if dtype == dtable_VD.dtype:
                    torch.addmm(dtable_VD, errors.T, hidden_ND[part], out=dtable_VD)
                else:
                    dtable_VD += torch.mm(errors.T, hidden_ND[part])
        ctx.save_for_backward(dhidden_ND, dtable_VD)
        ctx.mark_non_differentiable(nats_N, is_likeliest_N)
        return (nats_N * weights_N).sum(), nats_N, is_likeliest_N

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        dhidden_ND, dtable_VD = cast(tuple[Tensor, Tensor | None], ctx.saved_tensors)
        return dhidden_ND * scale, None if dtable_VD is None else dtable_VD * scale, None, None
