"""Devices: which device a run uses, and operations whose torch function depends on the device type."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

# If memory runs out, cuBLAS and the CPU and MPS allocators raise a RuntimeError with one of these texts.
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class FastPath(NamedTuple):
    """Which parts of the fast path to use on a GPU. If all are off, training uses the standard path."""

    packed: bool = False
    """Pack sequences into steps of a few fixed shapes. If off, pad them for transformers' forward pass."""
    varlen: bool = False
    """Use torch's variable-length attention kernel instead of an attention mask."""
    compiled: bool = False
    cuda_graph: bool = False
    """Capture the gradient computation as CUDA graphs."""


STANDARD_PATH = FastPath()
FAST_PATH = FastPath(packed=True, varlen=True, compiled=True, cuda_graph=True)


def best() -> torch.device:
    """The best device of this machine: a CUDA GPU if there is one, else Apple's GPU (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The product name of a CUDA GPU, or the type (`mps`, `cpu`) of any other device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def processor_name(device: torch.device) -> str:
    """The product name of a CUDA GPU, or of the processor for any other device; on some systems only its
    architecture."""
    if device.type == "cuda":
        return device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


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
    """Restore the states of the random number generators at the end of the `with` block."""
    on_device = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    if on_device is not None:
        torch.mps.set_rng_state(on_device)
