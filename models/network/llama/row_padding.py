"""Rounding: numbers of rows of which there are few, for matrix products in bfloat16 on the CPU.

There oneDNN writes the machine code of a product when it meets its sizes for the first time, which takes
ten times as long as the product itself: 4 to 5 ms for one of a step of `small` (docs/log.md). Batches
have hardly a number of places in common, so products are of some more rows, which are zeros.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 16  # sizes between a power of two and the next: a batch is 3 % longer at the mean, or less


def rows(count: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many rows a product of so many is made with: as many, or a few more."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return count
    unit = max(1, (1 << count.bit_length()) // (2 * SHARE))
    return -(-count // unit) * unit


def lengthened(x_N: Tensor, count: int) -> Tensor:
    """x with so many rows, of one axis or more, the new ones 0; itself where none is missing."""
    more = count - len(x_N)
    return F.pad(x_N, (0, 0) * (x_N.ndim - 1) + (0, more)) if more else x_N
