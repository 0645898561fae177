"""Optimizers: Muon for the matrices inside the blocks and AdamW for the rest, or AdamW for all."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.training.config import TrainConfig
from models.training.muon import Muon

TABLES = ("embed", "wte", "wpe", "lm_head")  # matrices that are look-up tables: AdamW's
# Both by experiment (docs/log.md). Muon's steps are as long as AdamW's; a row of a table, which
# few steps touch, can take longer ones. A short training has no use for a long memory.
TABLE_RATE = 4.0  # times the matrices', beside Muon
MOMENTUM = 0.9


class Optimizer:
    """torch's optimizers, each for its own parameters, behind one face."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and not any(table in name for table in TABLES)]
        if config.optimizer == "adamw":
            matrices = []
        chosen = {id(p) for p in matrices}
        tables = [p for _, p in named if id(p) not in chosen and p.ndim >= 2]
        vectors = [p for _, p in named if id(p) not in chosen and p.ndim < 2]
        groups = [
            {
                "params": tables,
                "weight_decay": config.weight_decay if not matrices else 0.0,
                "scale": TABLE_RATE if matrices else 1.0,
            },
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-10, fused=True)
        ]
        # Two of them, so that two cores can orthogonalise at once.
        for half in (matrices[::2], matrices[1::2]):
            if half:
                decay = config.weight_decay
                self.parts.append(Muon(half, lr=config.learning_rate, weight_decay=decay, momentum=MOMENTUM))

    def step(
        self,
        rate: float,
        together: Callable[..., Iterable[None]] = map,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """One step at this learning rate, by `together`; the gradients are used up.

        `dtype` is that of Muon's matrix products.
        """

        def one(part: torch.optim.Optimizer) -> None:
            for group in part.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            if isinstance(part, Muon):
                part.dtype = dtype
            part.step()
            part.zero_grad(set_to_none=True)

        list(together(one, self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """All state, flat: `0.3.exp_avg` is part 0, parameter 3."""
        return {
            f"{i}.{parameter}.{name}": value if torch.is_tensor(value) else torch.tensor(value)
            for i, part in enumerate(self.parts)
            for parameter, state in part.state_dict()["state"].items()
            for name, value in state.items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        for i, part in enumerate(self.parts):
            state: dict[int, dict[str, Any]] = {}
            for key, value in tensors.items():
                number, parameter, name = key.split(".", 2)
                if int(number) == i:
                    state.setdefault(int(parameter), {})[name] = value
            part.load_state_dict({**part.state_dict(), "state": state})
