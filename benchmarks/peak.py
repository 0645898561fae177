"""Measures which share of this machine's peak matmul rate a training step reaches, on two cores.

python -m benchmarks.peak RUN_DIR       writes the results to figures.json in this folder

    share = FLOPs of the steps / their seconds / peak
    FLOPs = 6 * (weights of the layers' matrices * positions + weights of the head * positions with loss)
            + 6 * layers * width * sum over the sequences of length^2

The factor 6 is two FLOPs per weight in the forward pass and four in the backward pass (section 2.1 of
https://arxiv.org/abs/2001.08361). Of the attention, only the half that is not masked is counted. In the
forward pass, each of the two matmuls of attention takes 2 * length^2 * width FLOPs, so the two unmasked
halves together take 2 * length^2 * width FLOPs; the backward pass takes twice as many. Padding, norms,
softmax, the loss, the optimizer and the assembly of the batch all take time but are not counted as FLOPs. The
peak is the rate of torch's fastest square matmul (size 2,048 or 4,096) on two threads, timed before and after
the steps in the same process. Steps and peak use the precision of the run: bf16 if the processor supports it.
On other processors a matmul in bf16 takes a hundred times as long as in fp32.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.data import batches
from models.network import networks
from models.text import tokenizer
from models.training.checkpoint import put_json
from models.training.launch import PRECISION
from models.training.precision import PrecisionChoice, fastest_seconds
from models.training.run_folder import Run
from models.training.schedule import learning_rate_at
from models.training.setup import seed_everything
from models.training.step import GradientStep

SIDES = (2048, 4096)
ROUNDS = 5
WARM = 5  # steps before the measurement


def peak_flops(dtype: torch.dtype) -> float:
    """The rate of the fastest square matmul, in FLOP/s."""
    torch.set_num_threads(2)
    best = 0.0
    for side in SIDES:
        left, right = (torch.randn(side, side, dtype=dtype) for _ in range(2))
        product: Any = partial(torch.mm, left, right, out=torch.empty_like(left))
        best = max(best, *(2 * side**3 / fastest_seconds(product) for _ in range(ROUNDS)))
    torch.set_num_threads(1)  # as models/training/trainer.py sets it on two cores
    return best


def flops(model: Any, examples: batches.Examples, rows: NDArray[np.int64], context_loss: float) -> float:
    """FLOPs of one step on these rows, by the formula at the top of this file."""
    positions = examples.lengths[rows] - 1  # inputs: the last id is only a target
    layers = sum(weight.numel() for weight in model.model.layers.parameters() if weight.ndim == 2)
    head = networks.lm_head(model).weight.numel()
    teaching = positions.sum() if context_loss else examples.replies[rows].sum()
    attention = model.config.num_hidden_layers * model.config.hidden_size * (positions**2).sum()
    return float(6 * (layers * positions.sum() + head * teaching + attention))


def main(folder: str) -> None:
    run = Run.read(Path(folder))
    config = run.train
    examples = batches.Examples(batches.read_examples(run.examples, "train"))
    seed_everything(config.seed)
    vocabulary = tokenizer.load(run.tokenizer).get_vocab_size()
    model = networks.build(run.network, vocabulary, run.positions())
    step = GradientStep(model, examples, config, workers=2)
    step.precision = PrecisionChoice.read(run.folder / PRECISION).precision
    before = peak_flops(step.matmul_dtype)
    order = batches.epoch_batches(examples.lengths, config.batch_tokens, seed=config.seed, epoch=0)

    def train_once(number: int) -> NDArray[np.int64]:
        rows = order[number % len(order)]
        step.gradient(rows, seed=number)
        step.update(learning_rate_at(number, 0.0, config))
        return rows

    for number in range(WARM):
        train_once(number)
    done, number, began_s = 0.0, WARM, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < 60 * (config.max_minutes or 1):
        done += flops(model, examples, train_once(number), config.context_loss)
        number += 1
    peak = max(before, peak_flops(step.matmul_dtype))
    figures = {
        "share": done / took_s / peak,
        "peak_gflops": peak / 1e9,
        "steps": number - WARM,
        "parameters": model.num_parameters(),
    }
    put_json(run.folder / "figures.json", figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
