"""Muon: matrices move along their momentum made orthogonal (Jordan et al., 2024).

torch.optim.Muon takes the matrices one by one, always in bfloat16. On a processor that has no
bfloat16 a step of a small network then takes ten times as long as its gradient; here matrices of
one shape, lying or standing, are taken together, in the precision of the training.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

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
                    alike[tuple(sorted(parameter.shape))].append(parameter)
            for (_, longer), parameters in alike.items():
                updates = self._follow(parameters, group["momentum"])
                made = orthogonal(torch.stack([_lying(each) for each in updates]), self.dtype)
                made = made.to(parameters[0].dtype)
                moves = [_like(parameter, each) for parameter, each in zip(parameters, made, strict=True)]
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, moves, alpha=-group["lr"] * RMS * math.sqrt(longer))

    def _follow(self, parameters: list[Tensor], momentum: float) -> tuple[Tensor, ...]:
        """Where the gradients of late have pointed, looking a step ahead (Nesterov)."""
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        followed = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(followed, gradients, 1 - momentum)
        return torch._foreach_lerp(gradients, followed, momentum)


def _lying(x_MN: Tensor) -> Tensor:
    """As wide as it is tall, or wider."""
    return x_MN.mT if x_MN.shape[0] > x_MN.shape[1] else x_MN


def _like(parameter: Tensor, x_MN: Tensor) -> Tensor:
    """A lying matrix the way the parameter stands."""
    return x_MN if parameter.shape == x_MN.shape else x_MN.mT


def orthogonal(x_LMN: Tensor, dtype: torch.dtype) -> Tensor:
    """L matrices, none taller than wide, with singular values near 1, by Newton and Schulz's iteration."""
    x_LMN = x_LMN / x_LMN.flatten(1).norm(dim=1).clamp(min=TINY)[:, None, None]
    x_LMN = x_LMN.to(dtype).contiguous()
    for a, b, c in COEFFICIENTS:
        gram_LMM = torch.bmm(x_LMN, x_LMN.mT)
        step_LMM = torch.baddbmm(gram_LMM, gram_LMM, gram_LMM, beta=b, alpha=c)
        x_LMN = torch.baddbmm(x_LMN, step_LMM, x_LMN, beta=a)
    return x_LMN
