"""Seeds: one for the whole training, and one derived from it for each step."""

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the random number generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of dropout in one step of one process: a checkpoint needs no generator's state."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])
