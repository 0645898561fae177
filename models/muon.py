"""Muon: matrices move along their momentum made orthogonal (Jordan et al., 2024).

torch.optim.Muon takes the matrices one by one, always in bfloat16. On a processor that has no
bfloat16 a step of a small network then takes ten times as long as its gradient; here matrices of
one shape are taken together, in the precision of the training.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Each triple is the (a, b, c) of one step, x -> a x + b x^3 + c x^5 on the singular values: that of
# Jordan's, five times.
COEFFICIENTS = ((3.4445, -4.7750, 2.0315),) * 5
TINY = 1e-7  # a matrix without a gradient stays as it is
RMS = 0.2  # of a step's entries, as AdamW's have (Liu et al., 2025, arXiv 2502.16982, section 2.2)


class Muon(torch.optim.Optimizer):
    """For matrices alone; `dtype` is that of the products, float32 or bfloat16."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            for shape, parameters in alike.items():
                updates = torch.stack([self._follow(p, group["momentum"]) for p in parameters])
                updates = orthogonal(updates, self.dtype).to(parameters[0].dtype)
                rate = group["lr"] * RMS * math.sqrt(max(shape))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-rate)

    def _follow(self, parameter: Tensor, momentum: float) -> Tensor:
        """Where the gradients of late have pointed, looking a step ahead (Nesterov)."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum_buffer"], momentum)


def orthogonal(x_LMN: Tensor, dtype: torch.dtype) -> Tensor:
    """L matrices with their singular values near 1, by Newton and Schulz's iteration."""
    if x_LMN.shape[1] > x_LMN.shape[2]:
        return orthogonal(x_LMN.mT, dtype).mT
    x_LMN = x_LMN / x_LMN.flatten(1).norm(dim=1).clamp(min=TINY)[:, None, None]
    x_LMN = x_LMN.to(dtype).contiguous()
    for a, b, c in COEFFICIENTS:
        gram_LMM = torch.bmm(x_LMN, x_LMN.mT)
        step_LMM = torch.baddbmm(gram_LMM, gram_LMM, gram_LMM, beta=b, alpha=c)
        x_LMN = torch.baddbmm(x_LMN, step_LMM, x_LMN, beta=a)
    return x_LMN
