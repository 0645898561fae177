"""Devices: where a training computes, and operations with another name on each kind of device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

# The CPU's allocator and Apple's have no error of their own, nor has cuBLAS.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class FastPath(NamedTuple):
    """The parts of the fast path, for GPUs; without any of them it is the standard path."""

    packed: bool = False
    """Packed sequences in steps of one shape; else padded batches and transformers' own forward pass."""
    varlen: bool = False
    """torch's variable-length attention kernel; else a mask."""
    compiled: bool = False
    cuda_graph: bool = False
    """Gradients are captured as CUDA graphs."""


STANDARD_PATH = FastPath()
FAST_PATH = FastPath(packed=True, varlen=True, compiled=True, cuda_graph=True)


def best() -> torch.device:
    """The fastest kind of device of this machine: a CUDA GPU, Apple's GPU (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The model of a CUDA GPU; the kind of other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_memory(device: torch.device) -> None:
    """Return cached, unused memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


@contextmanager
def random_state_restored(device: torch.device) -> Iterator[None]:
    """Inside, random numbers may be drawn; afterwards the generators are in their former state."""
    on_device = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    if on_device is not None:
        torch.mps.set_rng_state(on_device)
