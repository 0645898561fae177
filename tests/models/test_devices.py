"""Tests of the choice of a device, and of operations that torch implements per kind of device."""

from pathlib import Path

import pytest
import torch

from models import devices
from models.training.precision import choose_precision

MPS = torch.device("mps")


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "kind"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_a_training_is_on_the_fastest_kind_of_device(
    has_cuda: bool, has_mps: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: has_mps)
    assert devices.best().type == kind


def test_apples_gpu_trains_in_float32_and_is_not_timed_by_the_processor(tmp_path: Path) -> None:
    assert choose_precision(tmp_path, MPS, {}.__getitem__) == "fp32"


def test_random_numbers_drawn_on_apples_gpu_meanwhile_change_none_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In torch, Apple's GPU has a random number generator of its own, besides the CPU's generator."""
    there = [torch.tensor([7])]
    monkeypatch.setattr("torch.mps.get_rng_state", lambda: there[-1])
    monkeypatch.setattr("torch.mps.set_rng_state", there.append)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with devices.random_state_restored(MPS):
        torch.rand(5)
        there.append(torch.tensor([8]))
    assert torch.equal(torch.rand(3), expected)
    assert there[-1].item() == 7


def test_only_a_lack_of_memory_is_taken_for_one() -> None:
    lacks = [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ]
    assert all(map(devices.is_out_of_memory, lacks))
    assert not devices.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not devices.is_out_of_memory(ValueError("out of memory"))
