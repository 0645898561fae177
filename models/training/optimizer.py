"""The optimizers: AdamW for all weights, or Muon for matrices inside the blocks and AdamW for the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.training.config import TrainConfig
from models.training.muon import Muon

TABLES = ("embed", "wte", "wpe", "lm_head")  # parts of the names of look-up tables, which AdamW trains
# TABLE_SCALE and MOMENTUM were found by experiment (docs/log.md). Muon's updates are as large as AdamW's, but
# a row of a look-up table has a gradient in only a few steps, so its updates can be larger. In a short
# training run, a high momentum averages over too many steps.
TABLE_SCALE = 4.0  # the learning rate of the tables relative to that of the matrices, if Muon is used
MOMENTUM = 0.9


class Optimizer:
    """AdamW and Muon behind one interface, each for its own parameters.

    AdamW uses the betas of GPT-3 (appendix B of https://arxiv.org/abs/2005.14165). Its eps is far below
    PyTorch's default, because the gradients of rare tokens' embeddings are tiny.
    """

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
                "scale": TABLE_SCALE if matrices else 1.0,
            },
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-10, fused=True)
        ]
        # Each of two Muon optimizers gets half of the matrices, so that two cores can work at the same time.
        for half in (matrices[::2], matrices[1::2]):
            if half:
                decay = config.weight_decay
                self.parts.append(Muon(half, lr=config.learning_rate, weight_decay=decay, momentum=MOMENTUM))

    def step(
        self,
        rate: float,
        in_parallel: Callable[..., Iterable[None]] = map,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make one step at this learning rate, then free the gradients.

        `in_parallel` applies a function to each optimizer. `dtype` is the type of Muon's matmuls.
        """

        def step_part(part: torch.optim.Optimizer) -> None:
            for group in part.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            if isinstance(part, Muon):
                part.dtype = dtype
            part.step()
            part.zero_grad(set_to_none=True)

        list(in_parallel(step_part, self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """All state tensors under flat names: `0.3.exp_avg` is exp_avg of parameter 3 in optimizer 0."""
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
