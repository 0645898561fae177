"""Step: the gradient of a batch, in as many parts as fit the memory, and the update that it makes."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from models import devices
from models.data import batches
from models.devices import STANDARD_PATH, FastPath
from models.errors import InputError
from models.network import networks
from models.training.config import TrainConfig
from models.training.distributed import ProcessGroup
from models.training.fast_path.cuda_graph import CudaGraphStep
from models.training.fast_path.packing import Packed, Packing
from models.training.loss import weighted_nats
from models.training.optimizer import Optimizer
from models.training.precision import fastest_seconds

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]
ALONE = ProcessGroup()


class GradientStep:
    """Gradients and updates of one network; which rows and at what rate is the caller's."""

    def __init__(
        self,
        model: PreTrainedModel,
        examples: batches.Examples,
        config: TrainConfig,
        *,
        workers: int,
        group: ProcessGroup = ALONE,
        path: FastPath = STANDARD_PATH,
    ) -> None:
        self.model, self.examples, self.config = model, examples, config
        self.device = model.device
        self.has_encoder = networks.is_encoder_decoder(model)
        self.optimizer = Optimizer(model, config)
        self.workers, self.group = workers, group
        self.threads = ThreadPoolExecutor(workers) if workers > 1 else None
        self.parts = workers  # of a batch; more where it does not fit the memory whole
        self.precision = "fp32"
        self.path = path
        self.packing: Packing | None = None
        if path.packed:
            self.packing = Packing(examples, config.batch_tokens, config.context_loss, self.device, path)
        self.cuda_graph: CudaGraphStep | None = None
        if path.cuda_graph and self.device.type == "cuda":
            self.cuda_graph = CudaGraphStep(list(model.parameters()))

    def gradient(self, rows: Rows, *, seed: int) -> Tensor:
        """Leave the gradient of these rows' loss at the weights, clipped.

        `seed` is where dropout's chances come from. Returns (nats, correct, reply tokens, norm of
        the gradient before it was clipped), on the device.

        Raises:
            InputError: a single row does not fit the memory.
        """
        tokens = int(self.examples.replies[rows].sum())
        own_rows = rows[self.group.rank :: self.group.world_size]
        while (step_sums := self._over_ranks(self._try(own_rows, seed, tokens))) is None:
            if self.parts * self.group.world_size >= len(rows):
                longest = int(self.examples.lengths[rows].max())
                raise InputError(
                    f"one sequence of {longest} tokens does not fit the memory: "
                    "lower markup.max_tokens, or train a smaller network"
                )
            self.parts *= 2
            if self.cuda_graph:
                self.cuda_graph.clear()
            self.drop()
            log.warning("a batch does not fit the memory: its gradient is made in %d parts", self.parts)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        return torch.cat([step_sums, norm[None]])

    def update(self, rate: float) -> None:
        """Move the weights; the gradient is used up."""
        self.optimizer.step(rate, self.in_parallel, dtype=self.matmul_dtype)

    def in_parallel(self, work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
        """What `work` makes of each part; if it fails for one, the others end before that is told."""
        if self.threads is None:
            return [work(part) for part in parts]
        futures = [self.threads.submit(work, part) for part in parts]
        wait(futures)
        return [each.result() for each in futures]

    def drop(self) -> None:
        """Forget the gradient."""
        self.model.zero_grad(set_to_none=True)
        devices.free_memory(self.device)

    def _over_ranks(self, step_sums: Tensor | None) -> Tensor | None:
        """The sums over all ranks, with the gradients; none: the memory of one did not hold its part."""
        if self.group.world_size == 1:
            return step_sums
        if step_sums is None:
            self.drop()  # the message needs room, too
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        failed = torch.full((1,), float(step_sums is None), device=self.device)
        step_sums = torch.zeros(3, device=self.device) if step_sums is None else step_sums
        *gradients, step_sums, failed = self.group.all_reduce_sum([*gradients, step_sums, failed])
        if failed:
            return None
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        return step_sums

    def _try(self, rows: Rows, seed: int, tokens: int) -> Tensor | None:
        """The sums over this rank's rows; none: the memory did not hold them."""
        torch.manual_seed(seed)
        if not len(rows):
            return torch.zeros(3, device=self.device)
        count = min(self.parts, len(rows))
        parts = [self.batch(rows[i::count]) for i in range(count)]
        # Two parts add up to the same in either order; with more the order would be left to chance.
        in_parallel = self.in_parallel if count <= self.workers else map
        try:
            if self.cuda_graph and count == 1 and isinstance(parts[0], Packed):
                num_tokens = torch.full((), float(tokens), device=self.device)  # filled there: nothing waits
                return self.cuda_graph(self.differentiate, parts[0], num_tokens)
            return torch.stack(list(in_parallel(lambda part: self.differentiate(part, tokens), parts))).sum(0)
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
            return None

    def batch(self, rows: Rows) -> batches.Batch | Packed:
        if self.packing:
            return self.packing.pack(rows)
        return batches.collate([self.examples.row(i) for i in rows], has_encoder=self.has_encoder)

    def differentiate(self, part: batches.Batch | Packed, tokens: int | Tensor) -> Tensor:
        """Add the gradient of a part of a batch, which has `tokens` reply tokens in all.

        Returns (nats, correct, reply tokens) of the part.
        """
        total, nats_N, is_likeliest_N, is_reply_N = self.forward(part)
        # A batch without a reply token has loss 0, and no gradient that is not a number.
        (total / torch.as_tensor(tokens).clamp(min=1)).backward()  # type: ignore[no-untyped-call]
        return torch.stack(
            [(nats_N * is_reply_N).sum(), (is_likeliest_N & is_reply_N).sum(), is_reply_N.sum()]
        )

    def forward(self, part: batches.Batch | Packed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(weighted nats, nats_N, is_likeliest_N, is_reply_N) of the positions that teach something."""
        if isinstance(part, batches.Batch):
            inputs = self.forward_padded(part.to(self.device))
        else:
            inputs = cast(Packing, self.packing).forward_packed(self.model, part, self.matmul_dtype)
        total, nats_N, is_likeliest_N = weighted_nats(
            inputs.hidden_ND.to(self.matmul_dtype),
            networks.head(self.model).weight,
            inputs.targets_N,
            inputs.weights_N,
        )
        return total, nats_N, is_likeliest_N, inputs.is_reply_N

    def forward_padded(self, part: batches.Batch) -> batches.LossInputs:
        """A turn that is no reply still shows how people talk: it has the weight `context_loss`."""
        targets_BT = part.targets_BT
        if self.config.context_loss and not self.has_encoder:
            targets_BT = networks.next_ids(part)
        has_loss_BT = targets_BT >= 0
        is_reply_N = part.targets_BT[has_loss_BT] >= 0
        with self.autocast():
            hidden_ND = networks.hidden(self.model, part)[has_loss_BT]
        weights_N = torch.where(is_reply_N, 1.0, self.config.context_loss)
        return batches.LossInputs(hidden_ND, targets_BT[has_loss_BT], weights_N, is_reply_N)

    @property
    def matmul_dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def pass_seconds(self, rows: Rows, precision: str) -> float:
        """Of a forward and backward pass in that precision."""
        self.precision = precision
        batch = self.batch(rows)

        def both_ways() -> None:
            self.forward(batch)[0].backward()  # type: ignore[no-untyped-call]
            self.drop()

        return fastest_seconds(both_ways)
