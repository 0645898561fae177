"""CUDA graphs: the kernels of a gradient computation are captured once per shape, then launched together.

On a GPU, a step of a small network consists of several hundred short kernels, and launching them one by one
takes longer than running them. See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import devices
from models.training.fast_path.packing import Packed

log = logging.getLogger(__name__)

WARMUP_RUNS = 3  # on a side stream, as PyTorch's documentation requires before a capture

Work = Callable[[Packed, Tensor], Tensor]  # accumulates gradients in the parameters


class Graph(NamedTuple):
    """A captured graph, together with the tensors that it reads and writes."""

    part: Packed
    tokens: Tensor
    step_sums: Tensor
    gradients: list[Tensor | None]
    graph: torch.cuda.CUDAGraph


class CudaGraphStep:
    """Runs a gradient computation as a CUDA graph; the caller must free the gradients between calls."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.graphs: dict[int, Graph] = {}
        self.failure: str | None = None

    def __call__(self, work: Work, part: Packed, tokens: Tensor) -> Tensor:
        if part.positions not in self.graphs and self.failure is None:
            try:
                # Without this context, a failed capture would leave its own stream as the current stream.
                with torch.cuda.stream(torch.cuda.current_stream()):
                    self.graphs[part.positions] = self._capture(work, part, tokens)
            except RuntimeError as error:
                # Ending a failed capture may raise a second error, whose context is the original error.
                for cause in (error, error.__context__):
                    if cause is not None and devices.is_out_of_memory(cause):
                        raise cause from None
                self.failure = " ".join(str(error).split())
                self._drop_gradients()  # the captured kernels that fill the gradients never ran
                log.warning("training steps run without a CUDA graph and take longer: %s", self.failure)
        if self.failure is not None:
            return work(part, tokens)
        captured = self.graphs[part.positions]
        captured.part.copy_(part)
        captured.tokens.copy_(tokens)
        captured.graph.replay()
        for parameter, gradient in zip(self.parameters, captured.gradients, strict=True):
            parameter.grad = gradient  # set again in each call, because the optimizer sets it to None
        return captured.step_sums.clone()

    def clear(self) -> None:
        """Free the memory of all graphs."""
        self.graphs.clear()

    def _capture(self, work: Work, part: Packed, tokens: Tensor) -> Graph:
        part, tokens = part.clone(), tokens.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP_RUNS):
                work(part, tokens)
                self._drop_gradients()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # No two graphs are replayed at the same time, so they can share their temporary memory.
        pool = next(iter(self.graphs.values())).graph.pool() if self.graphs else None
        with torch.cuda.graph(graph, pool=pool):
            step_sums = work(part, tokens)
        gradients = [parameter.grad for parameter in self.parameters]
        self._drop_gradients()
        return Graph(part, tokens, step_sums, gradients, graph)

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None
