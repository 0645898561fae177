"""Row padding: the number of rows of a bfloat16 matmul on the CPU is rounded up to one of a few sizes.

oneDNN compiles machine code for each new shape of a matmul. The compilation takes ten times as long as the
matmul: 4 to 5 ms in a step of the recipe `small` (docs/log.md). Since batches rarely have the same number of
positions, the matrices are padded with rows of zeros, so that only a few shapes occur.

The suffix of a tensor's name gives its shape: N rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIZES_PER_OCTAVE = 16  # sizes from one power of two to the next: padding adds at most 3 % of rows on average


def padded_rows(count: int, dtype: torch.dtype, device: torch.device) -> int:
    """The number of rows that a matmul of `count` rows is padded to."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return count
    unit = max(1, (1 << count.bit_length()) // (2 * SIZES_PER_OCTAVE))
    return -(-count // unit) * unit


def pad_rows(x_N: Tensor, count: int) -> Tensor:
    """x padded with zeros to `count` rows; x itself if it already has `count` rows."""
    missing = count - len(x_N)
    return F.pad(x_N, (0, 0) * (x_N.ndim - 1) + (0, missing)) if missing else x_N
