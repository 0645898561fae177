"""The optimizer Muon, which orthogonalises the momentum of each matrix by a Newton-Schulz iteration.

Muon is described at https://kellerjordan.github.io/posts/muon/. torch.optim.Muon updates the matrices one by
one, always in bfloat16. On a processor without bfloat16 instructions, its step for a small network takes ten
times as long as computing the gradient. This optimizer updates all matrices of the same shape (or of the
transposed shape) together, in the precision of the training run.

The suffix of a tensor's name gives its shape: L matrices, M rows, N columns (M <= N).
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

# Each triple is the (a, b, c) of one iteration, which maps each singular value x to a x + b x^3 + c x^5. All
# five iterations use Jordan's coefficients.
COEFFICIENTS = ((3.4445, -4.7750, 2.0315),) * 5
EPSILON = 1e-7  # avoids a division by zero, so that a gradient of zeros gives an update of zeros
# The root mean square of an update's entries, as with AdamW (section 2.2 of https://arxiv.org/abs/2502.16982).
RMS = 0.2


class Muon(torch.optim.Optimizer):
    """An optimizer for matrices; `dtype` is the type of its matmuls, float32 or bfloat16."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_shape[tuple(sorted(parameter.shape))].append(parameter)
            for (_, longer), parameters in same_shape.items():
                updates = self._nesterov(parameters, group["momentum"])
                updates_LMN = orthogonalize(torch.stack([_as_wide(each) for each in updates]), self.dtype)
                updates_LMN = updates_LMN.to(parameters[0].dtype)
                moves = [
                    _as_shaped(parameter, each)
                    for parameter, each in zip(parameters, updates_LMN, strict=True)
                ]
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, moves, alpha=-group["lr"] * RMS * math.sqrt(longer))

    def _nesterov(self, parameters: list[Tensor], momentum: float) -> tuple[Tensor, ...]:
        """The Nesterov momentum of each parameter's gradient."""
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        followed = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(followed, gradients, 1 - momentum)
        return torch._foreach_lerp(gradients, followed, momentum)


def _as_wide(x_MN: Tensor) -> Tensor:
    """The matrix, transposed if it has more rows than columns."""
    return x_MN.mT if x_MN.shape[0] > x_MN.shape[1] else x_MN


def _as_shaped(parameter: Tensor, x_MN: Tensor) -> Tensor:
    """The matrix in the shape of the parameter: transposed if the parameter has more rows than columns."""
    return x_MN if parameter.shape == x_MN.shape else x_MN.mT


def orthogonalize(x_LMN: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring all singular values of the matrices close to 1, by a Newton-Schulz iteration in `dtype`."""
    x_LMN = x_LMN / x_LMN.flatten(1).norm(dim=1).clamp(min=EPSILON)[:, None, None]
    x_LMN = x_LMN.to(dtype).contiguous()
    for a, b, c in COEFFICIENTS:
        gram_LMM = torch.bmm(x_LMN, x_LMN.mT)
        step_LMM = torch.baddbmm(gram_LMM, gram_LMM, gram_LMM, beta=b, alpha=c)
        x_LMN = torch.baddbmm(x_LMN, step_LMM, x_LMN, beta=a)
    return x_LMN
