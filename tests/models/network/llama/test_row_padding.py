import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.network import networks
from models.network.config import NetworkConfig
from models.network.llama import cpu_block, row_padding
from models.training.loss import weighted_nats

CPU = torch.device("cpu")


@given(st.integers(0, 10_000))
def test_a_product_has_a_few_rows_more_of_which_there_are_few_numbers(count: int) -> None:
    padded = row_padding.padded_rows(count, torch.bfloat16, CPU)
    assert count <= padded <= count * (1 + 1 / row_padding.SIZES_PER_OCTAVE)
    assert (
        len({row_padding.padded_rows(n, torch.bfloat16, CPU) for n in range(1024, 2048)})
        <= row_padding.SIZES_PER_OCTAVE + 1
    )


@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float32, CPU), (torch.bfloat16, torch.device("cuda", 0))]
)
def test_where_no_code_is_written_for_a_size_none_is_changed(
    dtype: torch.dtype, device: torch.device
) -> None:
    assert [row_padding.padded_rows(count, dtype, device) for count in (1, 33, 1501)] == [1, 33, 1501]


def test_the_rows_that_are_added_change_neither_the_losses_nor_the_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    model = networks.build(NetworkConfig(n_layer=2, n_head=2, width=32), 50, 64)
    ids_BT = torch.randint(0, 50, (3, 19))
    targets_N, weights_N = torch.randint(0, 50, (57,)), torch.rand(57)

    def step() -> tuple[Tensor, Tensor, list[Tensor]]:
        hidden_ND = cpu_block.hidden_states(model, ids_BT, torch.bfloat16).flatten(0, 1).to(torch.bfloat16)
        total, nats_N, hits_N = weighted_nats(hidden_ND, networks.lm_head(model).weight, targets_N, weights_N)
        assert nats_N.shape == hits_N.shape == targets_N.shape
        return total, nats_N, list(torch.autograd.grad(total, list(model.parameters())))

    assert row_padding.padded_rows(57, torch.bfloat16, CPU) == 58
    total, nats_N, gradients = step()
    monkeypatch.setattr(row_padding, "padded_rows", lambda count, dtype, device: count)
    unpadded, unpadded_N, unpadded_gradients = step()
    # With another number of rows, a matmul may add its products in another order.
    torch.testing.assert_close(total, unpadded, rtol=1e-3, atol=0)
    torch.testing.assert_close(nats_N, unpadded_N, rtol=1e-2, atol=1e-2)
    for computed, right in zip(gradients, unpadded_gradients, strict=True):
        assert torch.dist(computed, right) < 0.01 * right.norm()
