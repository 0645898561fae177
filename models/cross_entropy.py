"""Cross-entropy straight from hidden states: no more than a slice of the logits is ever held.

On the CPU the logits of a step and what autograd keeps of them are a third of its time; here each
slice is turned into its gradient while it is in the cache, and the loss needs no second pass.

Name suffixes are shapes: N positions, D width, V vocabulary.
"""

import threading
from typing import Any, cast

import torch
from torch import Tensor

SLICE = 512  # positions; times a vocabulary of 4,096 floats: 8 MB


def weighted_nats(
    hidden_ND: Tensor, table_VD: Tensor, targets_N: Tensor, weights_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of weight times nats, nats_N, is_likeliest_N); the gradient is that of the first.

    Of several that are likeliest each counts as such.

    Logits are `hidden_ND @ table_VD.T`, multiplied in hidden_ND's type and then float32.
    """
    total, nats_N, hits_N = _Head.apply(hidden_ND, table_VD, targets_N, weights_N)  # type: ignore[no-untyped-call]
    return total, nats_N, hits_N


_memory = threading.local()


def _kept(vocabulary: int, device: torch.device) -> Tensor:
    """Two slices of floats, the same memory each time: new pages cost more than what is written to them."""
    known: Tensor | None = getattr(_memory, "floats", None)
    if known is None or known.shape[2] != vocabulary or known.device != device:
        known = _memory.floats = torch.empty(2, SLICE, vocabulary, device=device)
    return known


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, table_VD: Tensor, targets_N: Tensor, weights_N: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        table = table_VD.to(hidden_ND.dtype)
        errors_NV = hidden_ND.new_empty(len(hidden_ND), len(table))
        nats_N = torch.empty_like(weights_N)
        hits_N = torch.empty_like(targets_N, dtype=torch.bool)
        floats = _kept(len(table), table_VD.device)
        for start in range(0, len(hidden_ND), SLICE):
            part = slice(start, start + SLICE)
            logits, chances = floats[:, : len(hidden_ND[part])]
            logits.copy_(torch.mm(hidden_ND[part], table.T))
            targets, weights = targets_N[part, None], weights_N[part, None]
            # Not max nor argmax, which find the place as well: twenty times as slow here.
            best, own = logits.amax(dim=-1, keepdim=True), logits.gather(1, targets)
            torch.softmax(logits, dim=-1, out=chances)
            # Its own chance may be too small for a float; that of the likeliest never is.
            nats = best - own - chances.amax(dim=-1, keepdim=True).log()
            nats_N[part], hits_N[part] = nats[:, 0], (own == best)[:, 0]
            chances.mul_(weights).scatter_add_(1, targets, -weights)
            errors_NV[part] = chances
        ctx.save_for_backward(errors_NV, hidden_ND, table)
        ctx.mark_non_differentiable(nats_N, hits_N)
        return (nats_N * weights_N).sum(), nats_N, hits_N

    @staticmethod
    def backward(ctx: Any, scale: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        errors_NV, hidden_ND, table = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)
        hidden_gradient_ND = torch.mm(errors_NV, table) * scale
        if not ctx.needs_input_grad[1]:  # a frozen table
            return hidden_gradient_ND, None, None, None
        return hidden_gradient_ND, torch.mm(errors_NV.T, hidden_ND).float() * scale, None, None
