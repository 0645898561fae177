"""Packing: sequences of all lengths one after another, in a step of one shape, for the GPU.

There short kernels cost more than padding saves, and what has one shape can be compiled and
recorded. The whole data set lies on the device; of a step it is told which rows, in two short
tensors, and gathers the ids itself.

Name suffixes are shapes: N places of a step, C sequences it may hold, K places that may teach, D width.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from models.data.batches import Examples, Lesson
from models.devices import FAST, FastPath
from models.network.llama import cpu_block, packed_block

SPARE = 1.1  # of what a batch of average rows needs, so that the places are what it is full by
GRAINS = 8  # shapes there may be: a part of a batch has fewer places than a whole one
AMPERE = (8, 0)  # the first GPUs with bfloat16 and the kernel for sequences of unlike lengths
GRAIN, WIDEST = 8, 256  # widths of a head that the kernel takes: multiples, up to


class Room(NamedTuple):
    """What a step holds; each batch fits in all three."""

    places: int
    sequences: int
    teaching: int


@dataclass(frozen=True)
class Packed:
    """The rows of a step: where each begins in the data set (-1: it is padding), and in the step.

    offsets_C runs from 0 to N; sequences that are not there have no length.
    """

    starts_C: Tensor
    offsets_C: Tensor
    places: int

    def clone(self) -> "Packed":
        return Packed(self.starts_C.clone(), self.offsets_C.clone(), self.places)

    def copy_(self, other: "Packed") -> None:
        self.starts_C.copy_(other.starts_C)
        self.offsets_C.copy_(other.offsets_C)


def obstacle(model: PreTrainedModel, device: torch.device) -> str | None:
    """Why this network cannot be trained on packed sequences on that device, if it cannot."""
    if device.type != "cuda":
        return f"the device is {device.type}, no CUDA GPU"
    if torch.cuda.get_device_capability(device) < AMPERE:
        return f"{torch.cuda.get_device_name(device)} is older than Ampere"
    if not fits_kernel(model):
        return "the network is no Llama without dropout and biases, with heads as wide as a multiple of 8"
    return None


def fits_kernel(model: PreTrainedModel) -> bool:
    """Whether the kernel takes heads of this shape; it knows no dropout."""
    config: Any = model.config
    if not cpu_block.is_plain(model) or config.attention_dropout:
        return False
    return bool(config.head_dim % GRAIN == 0 and config.head_dim <= WIDEST)


class Packing:
    """Batches of some examples in steps of `batch_tokens` places."""

    def __init__(
        self,
        examples: Examples,
        batch_tokens: int,
        context_loss: float,
        device: torch.device,
        path: FastPath = FAST,
    ) -> None:
        self.context_loss, self.path = context_loss, path
        self.lengths = examples.lengths - 1  # the last id is no input
        self.starts = examples.starts[:-1]
        self.replies = examples.replies
        self.longest = max(1, int(self.lengths.max()))
        self.room = self._room(max(batch_tokens, self.longest))
        self.device = device
        self.ids = torch.from_numpy(examples.ids.astype(np.int32)).to(device)
        self.is_reply = torch.from_numpy(examples.is_reply).to(device)

    def _room(self, places: int) -> Room:
        rows = max(1.0, places / max(1.0, float(self.lengths.mean())))
        teaching = places
        if not self.context_loss:
            expected = SPARE * rows * float(self.replies.mean())
            teaching = min(places, max(math.ceil(expected), int(self.replies.max())))
        return Room(places, math.ceil(SPARE * rows), teaching)

    def make_room(self, rows: NDArray[np.int64]) -> None:
        """For these rows in one step, whatever `batch_tokens` are."""
        places, sequences, teaching = self.room
        taught = int((self.lengths if self.context_loss else self.replies)[rows].sum())
        self.room = Room(
            max(places, int(self.lengths[rows].sum())), max(sequences, len(rows)), max(teaching, taught)
        )

    def epoch_batches(self, *, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Row numbers of each batch, from (seed, epoch) alone; the next row that does not fit begins one."""
        order = np.random.default_rng((seed, epoch)).permutation(len(self.lengths))
        teaching = self.lengths if self.context_loss else self.replies
        batches, start, places, taught = [], 0, 0, 0
        for end, (length, teaches) in enumerate(zip(self.lengths[order], teaching[order], strict=True)):
            is_full = places + length > self.room.places or taught + teaches > self.room.teaching
            if end > start and (is_full or end - start == self.room.sequences):
                batches.append(order[start:end])
                start, places, taught = end, 0, 0
            places += int(length)
            taught += int(teaches)
        return [*batches, order[start:]]

    def pack(self, rows: NDArray[np.int64]) -> Packed:
        """The rows on the device, and padding behind them in sequences that are no longer than a row."""
        ends = np.cumsum(self.lengths[rows])
        grain = math.ceil(self.room.places / GRAINS)
        places = grain * math.ceil(ends[-1] / grain)
        padding = np.arange(ends[-1], places, self.longest)[1:]
        count = self.room.sequences + math.ceil(places / self.longest) + 1
        offsets = np.full(count + 1, places, dtype=np.int32)
        offsets[: len(ends) + len(padding) + 1] = [0, *ends, *padding]
        starts = np.full(count, -1, dtype=np.int64)
        starts[: len(rows)] = self.starts[rows]
        return Packed(self._send(torch.from_numpy(starts)), self._send(torch.from_numpy(offsets)), places)

    def _send(self, part: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return part
        return part.pin_memory().to(self.device, non_blocking=True)

    def read(self, model: PreTrainedModel, packed: Packed, dtype: torch.dtype) -> Lesson:
        """What the step teaches. Nothing here waits for the device."""
        places_N = torch.arange(packed.places, device=self.device)
        sequence_N = torch.searchsorted(packed.offsets_C[1:], places_N, right=True, out_int32=True)
        within_N = places_N - packed.offsets_C[sequence_N]
        start_N = packed.starts_C[sequence_N]
        is_there_N = start_N >= 0
        here_N = torch.where(is_there_N, start_N + within_N, 0)
        hidden_ND = packed_block.hidden(
            model, self.ids[here_N], within_N, packed.offsets_C, self.longest, dtype, self.path
        )
        is_reply_N = self.is_reply[here_N + 1] & is_there_N
        teaches_N = is_there_N if self.context_loss else is_reply_N
        # The places that teach before the others, in their order; how many there are is not asked.
        first_K = torch.argsort(~teaches_N, stable=True)[: self.room.teaching]
        is_reply_K, teaches_K = is_reply_N[first_K], teaches_N[first_K]
        weights_K = torch.where(is_reply_K, 1.0, self.context_loss) * teaches_K
        targets_K = torch.where(teaches_K, self.ids[here_N + 1][first_K].long(), 0)
        return Lesson(hidden_ND[first_K], targets_K, weights_K, is_reply_K)
