"""Computes the gradient of a batch, in as many micro-batches as memory requires, and makes optimizer steps.

The suffix of a tensor's name gives its shape: B batch, T tokens, N positions with loss, D width.
"""

import logging
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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

SPIKE = 2.0  # a loss above this multiple of a uniform guess's loss is a fault, not a difficult batch

Rows = NDArray[np.int64]
ALONE = ProcessGroup()


class GradientStep:
    """Computes gradients and updates of one network; the caller chooses the rows and the learning rate."""

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
        self.parts = workers  # micro-batches per batch; doubled whenever a batch does not fit into memory
        self.precision = "fp32"
        self.path = path
        self.packing: Packing | None = None
        if path.packed:
            self.packing = Packing(examples, config.batch_tokens, config.context_loss, self.device, path)
        self.cuda_graph: CudaGraphStep | None = None
        if path.cuda_graph and self.device.type == "cuda":
            self.cuda_graph = CudaGraphStep(list(model.parameters()))

    def gradient(self, rows: Rows, *, seed: int) -> Tensor:
        """Accumulate the clipped gradient of these rows' loss in the parameters' `.grad`.

        `seed` seeds dropout. Returns a tensor of shape (4,) on the device: the negative log-likelihood of the
        replies in nats, the number of correctly predicted reply tokens, the number of reply tokens, and the
        gradient's norm before clipping.

        Raises:
            InputError: a single row does not fit into memory.
        """
        tokens = int(self.examples.replies[rows].sum())
        own_rows = rows[self.group.rank :: self.group.world_size]
        while (step_sums := self._over_ranks(self._try(own_rows, seed, tokens))) is None:
            if self.parts * self.group.world_size >= len(rows):
                longest = int(self.examples.lengths[rows].max())
                raise InputError(
                    f"one sequence of {longest} tokens does not fit into memory: "
                    "lower markup.max_tokens, or train a smaller network"
                )
            self.parts *= 2
            if self.cuda_graph:
                self.cuda_graph.clear()
            self.drop()
            log.warning("a batch does not fit into memory: its gradient is computed in %d parts", self.parts)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        return torch.cat([step_sums, norm[None]])

    def update(self, rate: float) -> None:
        """Make one optimizer step at this learning rate, then free the gradient."""
        self.optimizer.step(rate, self.in_parallel, dtype=self.matmul_dtype)

    def in_parallel(self, work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
        """Apply `work` to each part in threads, wait for all threads, then raise the first error, if any."""
        if self.threads is None:
            return [work(part) for part in parts]
        futures = [self.threads.submit(work, part) for part in parts]
        wait(futures)
        return [each.result() for each in futures]

    def drop(self) -> None:
        """Free the gradient."""
        self.model.zero_grad(set_to_none=True)
        devices.free_memory(self.device)

    def _over_ranks(self, step_sums: Tensor | None) -> Tensor | None:
        """Sum the gradients and `step_sums` over all processes; returns None if any ran out of memory."""
        if self.group.world_size == 1:
            return step_sums
        if step_sums is None:
            self.drop()  # the all-reduce needs memory, too
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
        """Compute the gradient of this process's rows; returns `step_sums`, or None if out of memory."""
        torch.manual_seed(seed)
        if not len(rows):
            return torch.zeros(3, device=self.device)
        count = min(self.parts, len(rows))
        parts = [self.batch(rows[i::count]) for i in range(count)]
        # Two gradients have the same sum in either order; with more, the sum would depend on thread timing.
        in_parallel = self.in_parallel if count <= self.workers else map
        try:
            if self.cuda_graph and count == 1 and isinstance(parts[0], Packed):
                # Filling a tensor on the device does not make the host wait, unlike copying it there.
                num_tokens = torch.full((), float(tokens), device=self.device)
                return self.cuda_graph(self.differentiate, parts[0], num_tokens)
            return torch.stack(list(in_parallel(lambda part: self.differentiate(part, tokens), parts))).sum(0)
        except (RuntimeError, MemoryError) as error:
            if not devices.is_out_of_memory(error):
                raise
            return None

    def batch(self, rows: Rows) -> batches.Batch | Packed:
        if self.packing:
            return self.packing.pack(rows)
        batch = batches.collate([self.examples.row(i) for i in rows], has_encoder=self.has_encoder)
        return batch if self.has_encoder else replace(batch, is_silent_BT=self.examples.silent_targets(rows))

    def differentiate(self, part: batches.Batch | Packed, tokens: int | Tensor) -> Tensor:
        """Accumulate the gradient of one part of a batch; `tokens` is the batch's number of reply tokens.

        Returns the part's (nats, correct reply tokens, reply tokens) as a tensor of shape (3,).
        """
        total, nats_N, is_likeliest_N, is_reply_N = self.forward(part)
        # With the clamp, a batch without reply tokens has the loss 0 and a finite gradient.
        (total / torch.as_tensor(tokens).clamp(min=1)).backward()  # type: ignore[no-untyped-call]
        return torch.stack(
            [(nats_N * is_reply_N).sum(), (is_likeliest_N & is_reply_N).sum(), is_reply_N.sum()]
        )

    def forward(self, part: batches.Batch | Packed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return (sum of weighted nats, nats_N, is_likeliest_N, is_reply_N) for the positions with loss."""
        if isinstance(part, batches.Batch):
            inputs = self.forward_padded(part.to(self.device))
        else:
            inputs = cast(Packing, self.packing).forward_packed(self.model, part, self.matmul_dtype)
        total, nats_N, is_likeliest_N = weighted_nats(
            inputs.hidden_ND.to(self.matmul_dtype),
            networks.lm_head(self.model).weight,
            inputs.targets_N,
            inputs.weights_N,
        )
        return total, nats_N, is_likeliest_N, inputs.is_reply_N

    def forward_padded(self, part: batches.Batch) -> batches.LossInputs:
        """The inputs that the loss of a padded batch needs; context tokens have the weight `context_loss`."""
        targets_BT = part.targets_BT
        if self.config.context_loss and not self.has_encoder:
            targets_BT = networks.next_ids(part)
        has_loss_BT = targets_BT >= 0
        is_reply_N = part.targets_BT[has_loss_BT] >= 0
        with self.autocast():
            hidden_ND = networks.hidden_states(self.model, part)[has_loss_BT]
        weights_N = torch.where(is_reply_N, 1.0, self.config.context_loss)
        if part.is_silent_BT is not None:
            weights_N = weights_N * ~part.is_silent_BT[has_loss_BT]
        return batches.LossInputs(hidden_ND, targets_BT[has_loss_BT], weights_N, is_reply_N)

    @property
    def matmul_dtype(self) -> torch.dtype:
        """The type in which matmuls are computed."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def pass_seconds(self, rows: Rows, precision: str) -> float:
        """Set the precision of the step; returns the seconds that a forward and a backward pass take."""
        self.precision = precision
        batch = self.batch(rows)

        def both_ways() -> None:
            self.forward(batch)[0].backward()  # type: ignore[no-untyped-call]
            self.drop()

        return fastest_seconds(both_ways)


def find_fault(step_sums: Tensor, guess_nats: float) -> str | None:
    """What is wrong with a step's (nats, correct, reply tokens, gradient norm), or None if nothing is wrong.

    `guess_nats` is the loss of a uniform guess among all tokens. Each step waits here until the device has
    computed these values, because a bad gradient must not change the weights.
    """
    nats, _, tokens, norm = step_sums.tolist()
    loss = nats / max(1, tokens)
    if not math.isfinite(nats) or not math.isfinite(norm):
        return f"loss {loss:g}, gradient norm {norm:g}"
    if loss > SPIKE * guess_nats:
        return f"loss {loss:.2f} (that of a uniform guess is {guess_nats:.2f})"
    return None


def step_seed(seed: int, step: int, rank: int) -> int:
    """The dropout seed of a step in one process; a resumed run recomputes it and needs no random state."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
