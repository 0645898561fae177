import pytest
import torch
import torch.nn.functional as F

from models.training.loss import SLICE, weighted_nats


@pytest.fixture(params=[0, 1, 7, SLICE, 2 * SLICE + 3])
def head(request: pytest.FixtureRequest) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    n = request.param
    hidden_ND = torch.randn(n, 8, requires_grad=True)
    table_VD = torch.randn(11, 8, requires_grad=True)
    return hidden_ND, table_VD, torch.randint(0, 11, (n,)), torch.rand(n)


def test_the_loss_and_its_gradients_are_those_of_torchs_cross_entropy(head: tuple[torch.Tensor, ...]) -> None:
    hidden_ND, table_VD, targets_N, weights_N = head
    logits_NV = hidden_ND @ table_VD.T
    expected_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    expected = torch.autograd.grad(3 * (expected_N * weights_N).sum(), [hidden_ND, table_VD])

    total, nats_N, hits_N = weighted_nats(*head)

    torch.testing.assert_close(nats_N, expected_N.detach())
    torch.testing.assert_close(total, (expected_N * weights_N).sum())
    assert torch.equal(hits_N, logits_NV.argmax(-1) == targets_N)
    for gradient, right in zip(torch.autograd.grad(3 * total, [hidden_ND, table_VD]), expected, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-3)


def test_a_target_without_a_chance_costs_its_whole_distance_and_no_infinity() -> None:
    hidden_ND = torch.tensor([[1.0]])
    _, nats_N, _ = weighted_nats(hidden_ND, torch.tensor([[0.0], [500.0]]), torch.tensor([0]), torch.ones(1))
    assert nats_N.tolist() == [500.0]


def test_in_bf16_the_gradients_are_those_of_float32_but_for_rounding() -> None:
    torch.manual_seed(0)
    hidden_ND, table_VD = torch.randn(600, 32), torch.randn(50, 32, requires_grad=True)
    targets_N, weights_N = torch.randint(0, 50, (600,)), torch.ones(600)
    gradients = [
        torch.autograd.grad(weighted_nats(hidden_ND.to(dtype), table_VD, targets_N, weights_N)[0], table_VD)[
            0
        ]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert gradients[1].dtype == torch.float32
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()
