"""Devices: where a training computes, and the operations that have another name on each kind of device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

# The CPU's allocator and Apple's have no error of their own, nor has cuBLAS.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class FastPath(NamedTuple):
    """The parts of the way for a GPU; without any it is the one that every device has."""

    packed: bool = False
    """Sequences one after another in steps of one shape; else padded, through transformers' own forward."""
    varlen: bool = False
    """torch's kernel for sequences of unlike lengths; else a mask."""
    compiled: bool = False
    cuda_graph: bool = False
    """As a CUDA graph."""


STANDARD_PATH = FastPath()
FAST_PATH = FastPath(packed=True, varlen=True, compiled=True, cuda_graph=True)


def best() -> torch.device:
    """The fastest kind of device of this machine: a CUDA GPU, Apple's GPU (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def name(device: torch.device) -> str:
    """Of the model of GPU; of other devices the kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def wait(device: torch.device) -> None:
    """Until all that the device was given to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_memory(device: torch.device) -> None:
    """Give what is cached, and not used, back to the device."""
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
    """Whatever is drawn inside, the random numbers after it are those that would have come without it."""
    on_device = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    if on_device is not None:
        torch.mps.set_rng_state(on_device)
