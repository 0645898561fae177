"""Muon is compared with torch.optim.Muon and with the singular value decomposition."""

import pytest
import torch

from models.training.muon import Muon, orthogonalize

SHAPES = [(8, 8), (8, 24), (24, 8), (8, 8), (1, 8)]


def matrices() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=rng) for shape in SHAPES]


def test_steps_are_those_of_torchs_muon_to_the_rounding_of_its_products() -> None:
    ours, theirs = matrices(), matrices()
    settings = {"lr": 0.05, "weight_decay": 0.3, "momentum": 0.9}
    mine = Muon(ours, **settings)
    mine.dtype = torch.bfloat16
    other = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for step in range(3):
        rng = torch.Generator().manual_seed(step)
        for left, right in zip(ours, theirs, strict=True):
            left.grad = torch.randn(left.shape, generator=rng)
            right.grad = left.grad.clone()
        mine.step()
        other.step()
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=3e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_points_where_the_gradient_does_with_all_singular_values_alike(shape: tuple[int, int]) -> None:
    left, values, right = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(1)), full_matrices=False
    )
    values = torch.logspace(0, -2, len(values))  # with a ratio of 100, two iterations are too few
    x_MN = left @ torch.diag(values) @ right
    orthogonal_MN = orthogonalize(x_MN[None], torch.float32)[0]
    along = torch.diag(left.T @ orthogonal_MN @ right.T)
    assert torch.dist(left @ torch.diag(along) @ right, orthogonal_MN) < 1e-4
    assert all(0.6 < value < 1.3 for value in along)


def test_a_matrix_without_a_gradient_stays_as_it_is() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 4), torch.float32), torch.zeros(2, 3, 4))
    (still, moved) = (torch.ones(3, 3), torch.ones(3, 3))
    moved.grad = torch.eye(3)
    Muon([still, moved], lr=0.1, weight_decay=0.0, momentum=0.9).step()
    assert torch.equal(still, torch.ones(3, 3))
    assert not torch.equal(moved, torch.ones(3, 3))
