"""Sets up a training run: process group, device, examples, network, gradient step and precision."""

import os
import random
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from models import devices
from models.data import batches
from models.network import networks
from models.training.distributed import ProcessGroup, init_process_group
from models.training.fast_path import choice
from models.training.initial_weights import load_initial_weights
from models.training.precision import PROBE_TOKENS, choose_precision
from models.training.run_folder import Run
from models.training.step import GradientStep


@dataclass(frozen=True)
class Setup:
    """The objects that a training run uses from start to end and never replaces."""

    group: ProcessGroup
    device: torch.device
    table: pa.Table
    """The training examples, in the schema `EXAMPLES` of models/data/schemas.py."""
    examples: batches.Examples
    sides: NDArray[np.int64]
    """The number of tokens of each example, of shape (rows, 1). With an encoder, the tokens of the context
    and of the reply are counted separately, and the shape is (rows, 2)."""
    model: PreTrainedModel
    start_token_counts: dict[str, int]
    """The counts of kept, new and lost tokens in a warm start; empty if there was no warm start."""
    step: GradientStep

    @property
    def vocab_size(self) -> int:
        return networks.lm_head(self.model).out_features


def set_up(run: Run, stop: threading.Event) -> Setup:
    """Set up a training run: read the examples, build the network, choose the path and the precision.

    Raises:
        InputError: the examples or the initial model do not fit the configuration, or train.fast_path is `on`
            but the fast path cannot be used.
    """
    group, device = init_process_group(), devices.best()
    table = batches.read_examples(run.examples, "train")
    examples = batches.Examples(table)
    seed_everything(run.train.seed)
    model, start_token_counts = load_initial_weights(run)
    sides = examples.sides(has_encoder=networks.is_encoder_decoder(model))
    run.check(examples, sides, networks.lm_head(model).out_features)
    path = choice.choose_path(run, model, device, group, stop)
    model.to(device)  # type: ignore[arg-type]
    if device.type == "cpu":
        # On short sequences in bf16, the backward pass of eager attention is several times as fast as that of
        # fused attention.
        model.set_attn_implementation("eager")
    workers = num_workers(run, device)
    step = GradientStep(model, examples, run.train, workers=workers, group=group, path=path)
    probe_rows = batches.bucket(sides, PROBE_TOKENS)[-1]
    with group.main_process_first():
        step.precision = choose_precision(
            run.folder, device, lambda precision: step.pass_seconds(probe_rows, precision)
        )
    return Setup(group, device, table, examples, sides, model, start_token_counts, step)


def seed_everything(seed: int) -> None:
    """Seed the random number generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def num_workers(run: Run, device: torch.device) -> int:
    """The number of threads among which each batch is divided.

    With small matrices, two threads that each compute half a batch are faster than two OpenMP threads. With
    dropout there is only one thread: two would draw from one random generator in an undefined order.
    """
    return 2 if device.type == "cpu" and num_cores() > 1 and not run.network.dropout else 1


def num_cores() -> int:
    """The number of cores that this process may use, limited by OMP_NUM_THREADS if it is set."""
    # Only some systems, such as Linux, can restrict a process to some of the cores.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, int(os.environ.get("OMP_NUM_THREADS") or sys.maxsize))
