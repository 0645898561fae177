"""Packing: for training on a GPU, sequences of any length are concatenated into steps of a few fixed shapes.

Steps of the same shape can be compiled and captured as CUDA graphs. The whole data set is stored on the
device. Two short tensors say which rows belong to a step, and the device gathers the ids of these rows.

The suffix of a tensor's name gives its shape: N positions of a step, C sequences that a step may have, K
positions that may carry loss, D width.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from models.data.batches import Examples, LossInputs
from models.devices import FAST_PATH, FastPath
from models.network.llama import cpu_block, packed_block

HEADROOM = 1.1  # room for rows shorter than average, so that the number of positions usually limits a batch
NUM_SHAPES = 8  # maximum number of step shapes; several, because micro-batches are shorter than batches
AMPERE = (8, 0)  # compute capability of the first GPUs with bfloat16 and the variable-length kernel
HEAD_WIDTH_MULTIPLE, MAX_HEAD_WIDTH = 8, 256  # head widths that the kernel supports


class PackCapacity(NamedTuple):
    """Limits on the positions, sequences and positions with loss in a step; no batch exceeds any limit."""

    positions: int
    sequences: int
    loss_positions: int


@dataclass(frozen=True)
class Packed:
    """The rows of a step: where each row begins in the data set, and where it begins in the step.

    starts_C is -1 for padding. offsets_C begins with 0 and ends with N; unused sequences have length 0.
    """

    starts_C: Tensor
    offsets_C: Tensor
    positions: int

    def clone(self) -> "Packed":
        return Packed(self.starts_C.clone(), self.offsets_C.clone(), self.positions)

    def copy_(self, other: "Packed") -> None:
        self.starts_C.copy_(other.starts_C)
        self.offsets_C.copy_(other.offsets_C)


def unsupported_reason(model: PreTrainedModel, device: torch.device) -> str | None:
    """Why this network cannot be trained on packed sequences on that device; None if it can."""
    if device.type != "cuda":
        return f"the device is {device.type} and not a CUDA GPU"
    if torch.cuda.get_device_capability(device) < AMPERE:
        return f"{torch.cuda.get_device_name(device)} is older than Ampere"
    if not fits_kernel(model):
        return "the network is not a Llama, has dropout or biases, or has an unsupported head width"
    return None


def fits_kernel(model: PreTrainedModel) -> bool:
    """Whether packing supports this network: a Llama without dropout and biases, with a usable head width."""
    config: Any = model.config
    if not cpu_block.is_standard_llama(model) or config.attention_dropout:
        return False
    return bool(config.head_dim % HEAD_WIDTH_MULTIPLE == 0 and config.head_dim <= MAX_HEAD_WIDTH)


class Packing:
    """Packs examples into batches of `batch_tokens` positions, or more if the longest example needs more."""

    def __init__(
        self,
        examples: Examples,
        batch_tokens: int,
        context_loss: float,
        device: torch.device,
        path: FastPath = FAST_PATH,
    ) -> None:
        self.context_loss, self.path = context_loss, path
        self.lengths = examples.lengths - 1  # the last id is never an input
        self.starts = examples.starts[:-1]
        self.replies = examples.replies
        self.longest = max(1, int(self.lengths.max()))
        self.capacity = self._capacity(max(batch_tokens, self.longest))
        self.device = device
        self.ids = torch.from_numpy(examples.ids.astype(np.int32)).to(device)
        self.is_reply = torch.from_numpy(examples.is_reply).to(device)
        is_silent = examples.is_silent
        self.is_silent = None if is_silent is None else torch.from_numpy(is_silent).to(device)

    def _capacity(self, positions: int) -> PackCapacity:
        rows = max(1.0, positions / max(1.0, float(self.lengths.mean())))
        loss_positions = positions
        if not self.context_loss:
            expected = HEADROOM * rows * float(self.replies.mean())
            loss_positions = min(positions, max(math.ceil(expected), int(self.replies.max())))
        return PackCapacity(positions, math.ceil(HEADROOM * rows), loss_positions)

    def grow(self, rows: NDArray[np.int64]) -> None:
        """Increase the capacity so that these rows fit into one step, whatever `batch_tokens` is."""
        positions, sequences, loss_positions = self.capacity
        with_loss = int((self.lengths if self.context_loss else self.replies)[rows].sum())
        self.capacity = PackCapacity(
            max(positions, int(self.lengths[rows].sum())),
            max(sequences, len(rows)),
            max(loss_positions, with_loss),
        )

    def epoch_batches(self, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """The row numbers of each batch. The order of the rows depends only on `seed` and `epoch`. A row that
        does not fit into a batch begins the next batch."""
        order = np.random.default_rng((seed, epoch)).permutation(len(self.lengths))
        loss_positions = self.lengths if self.context_loss else self.replies
        batches, start, positions, with_loss = [], 0, 0, 0
        for end, (length, own_loss) in enumerate(
            zip(self.lengths[order], loss_positions[order], strict=True)
        ):
            is_full = (
                positions + length > self.capacity.positions
                or with_loss + own_loss > self.capacity.loss_positions
            )
            if end > start and (is_full or end - start == self.capacity.sequences):
                batches.append(order[start:end])
                start, positions, with_loss = end, 0, 0
            positions += int(length)
            with_loss += int(own_loss)
        return [*batches, order[start:]]

    def pack(self, rows: NDArray[np.int64]) -> Packed:
        """Describe the step that consists of these rows and of padding, in tensors on the device.

        The padding follows the rows and fills the step up to one of at most NUM_SHAPES sizes. It consists of
        sequences that are no longer than the longest example.
        """
        ends = np.cumsum(self.lengths[rows])
        unit = math.ceil(self.capacity.positions / NUM_SHAPES)
        positions = unit * math.ceil(ends[-1] / unit)
        padding = np.arange(ends[-1], positions, self.longest)[1:]
        count = self.capacity.sequences + math.ceil(positions / self.longest) + 1
        offsets = np.full(count + 1, positions, dtype=np.int32)
        offsets[: len(ends) + len(padding) + 1] = [0, *ends, *padding]
        starts = np.full(count, -1, dtype=np.int64)
        starts[: len(rows)] = self.starts[rows]
        return Packed(self._send(torch.from_numpy(starts)), self._send(torch.from_numpy(offsets)), positions)

    def _send(self, part: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return part
        return part.pin_memory().to(self.device, non_blocking=True)

    def forward_packed(self, model: PreTrainedModel, packed: Packed, dtype: torch.dtype) -> LossInputs:
        """The forward pass up to the inputs of the loss; no operation waits for the device."""
        positions_N = torch.arange(packed.positions, device=self.device)
        sequence_N = torch.searchsorted(packed.offsets_C[1:], positions_N, right=True, out_int32=True)
        within_N = positions_N - packed.offsets_C[sequence_N]
        start_N = packed.starts_C[sequence_N]
        is_real_N = start_N >= 0
        source_N = torch.where(is_real_N, start_N + within_N, 0)
        hidden_ND = packed_block.hidden_states(
            model, self.ids[source_N], within_N, packed.offsets_C, self.longest, dtype, self.path
        )
        is_reply_N = self.is_reply[source_N + 1] & is_real_N
        has_loss_N = is_real_N if self.context_loss else is_reply_N
        # Move the positions with loss to the front, in their order. Selecting them with a mask would make the
        # host wait until the device has counted them.
        first_K = torch.argsort(~has_loss_N, stable=True)[: self.capacity.loss_positions]
        is_reply_K, has_loss_K = is_reply_N[first_K], has_loss_N[first_K]
        weights_K = torch.where(is_reply_K, 1.0, self.context_loss) * has_loss_K
        if self.is_silent is not None:
            weights_K = weights_K * ~self.is_silent[source_N + 1][first_K]
        targets_K = torch.where(has_loss_K, self.ids[source_N + 1][first_K].long(), 0)
        return LossInputs(hidden_ND[first_K], targets_K, weights_K, is_reply_K)
