"""Proof that the fast path computes the same loss, gradient and update as the standard path, but faster.

Both paths use the same weights, the same precision and the rows of the fast path's first batch.
The parts of the fast path are switched on one after another, so that it is clear which of them has failed:
packing with the variable-length kernel, the compiled blocks, or the CUDA graph. Then one update and the time
of a step are compared.

The command

    python -m models.training.fast_path.proof RUN_DIR DEVICE PRECISION

prints one JSON object on standard output, for models/training/fast_path/choice.py.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import devices
from models.data import batches
from models.devices import FAST_PATH, STANDARD_PATH, FastPath
from models.network.llama import packed_block
from models.processes import when_parent_ends
from models.training import initial_weights
from models.training.fast_path import packing
from models.training.precision import fastest_seconds
from models.training.run_folder import Run
from models.training.setup import seed_everything
from models.training.step import GradientStep

log = logging.getLogger(__name__)

# Tolerances in bfloat16. Even if both paths are correct, rounding makes the losses differ by up to 0.002 %,
# the gradients of a weight by up to 0.8 % and the updates by up to 5 %. The updates differ most, because Muon
# scales all singular values of a gradient to about 1, which magnifies the rounding errors in small values. If
# sequences attend to each other or to later tokens, the gradients differ by at least 57 % and the updates by
# at least 98 % (docs/log.md).
LOSS = 0.005  # relative to the standard path's loss
NORM = 0.05  # relative to the standard path's gradient norm
GRADIENT = 0.2  # relative to the norm of a weight's gradient
UPDATE = 0.5  # relative to the norm of the whole update
TINY = 1e-3  # relative to the norm of the whole gradient; a difference this small is due to rounding

PARTS = {
    "packing with the variable-length kernel": FastPath(packed=True, varlen=True),
    "the compiled blocks": FastPath(packed=True, varlen=True, compiled=True),
    "the CUDA graph": FAST_PATH,
}


class Unproved(Exception):
    """The fast path must not be used; the message says which part of it failed and how."""


@dataclass(frozen=True)
class BatchGradient:
    """The loss of one batch, and the gradient of each weight as a tensor on the CPU."""

    loss: float
    norm: float
    gradients: dict[str, Tensor]


def prove(run: Run, device: torch.device, precision: str) -> dict[str, Any]:
    """Compare the paths; returns the values to record: loss, gradient norm, tokens per second, seconds.

    Raises:
        Unproved: the fast path has a different loss, gradient or update, raises an error, or is slower.
    """
    start_s = time.monotonic()
    examples = batches.Examples(batches.read_examples(run.examples, "train"))
    seed_everything(run.train.seed)
    model, _ = initial_weights.load_initial_weights(run)
    model.to(device)  # type: ignore[arg-type]
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    weights = {name: p.detach().to("cpu", copy=True) for name, p in trained}

    def step(path: FastPath) -> GradientStep:
        gradient_step = GradientStep(model, examples, run.train, workers=1, path=path)
        gradient_step.precision = precision
        return gradient_step

    standard = step(STANDARD_PATH)
    fast_rows = cast(packing.Packing, step(FAST_PATH).packing).epoch_batches(seed=run.train.seed, epoch=0)[0]
    expected = padded_batch_gradient(standard, fast_rows)
    updates = apply_and_undo(standard, run.train.learning_rate, weights)
    standard_s = seconds_per_token(standard, typical_batch(examples, run.train.batch_tokens))
    del standard
    fast, seconds = check_parts(step, fast_rows, expected)
    with _named("an update"):
        check_update(updates, apply_and_undo(fast, run.train.learning_rate, weights))
    check_speed(standard_s, fast_s := seconds_per_token(fast, fast_rows))
    return {
        "loss": expected.loss,
        "norm": expected.norm,
        "tokens_per_second": {"fast": 1 / fast_s, "plain": 1 / standard_s},
        "seconds": time.monotonic() - start_s,
        "seconds_compiling": max(0.0, seconds["the compiled blocks"] - seconds["the CUDA graph"]),
    }


def check_parts(
    step: Callable[[FastPath], GradientStep], rows: NDArray[np.int64], expected: BatchGradient
) -> tuple[GradientStep, dict[str, float]]:
    """Switch the parts on one by one; compare the gradient each time with that of the standard path.

    Returns the step that uses all parts, and the seconds that the comparison of each part took.

    Raises:
        Unproved: with one of the parts, the gradient differs from the standard path's or an error is raised.
    """
    seconds = {}
    for name, path in PARTS.items():
        since_s = time.monotonic()
        fast = step(path)
        with _named(name):
            check_gradient(expected, batch_gradient(fast, rows))
            failure = fast.cuda_graph and fast.cuda_graph.failure
        if failure:
            raise Unproved(f"{name}: {failure}")
        seconds[name] = time.monotonic() - since_s
    return fast, seconds


@contextmanager
def _named(name: str) -> Iterator[None]:
    """A context that converts errors to Unproved, with a message that begins with `name`."""
    try:
        yield
    except Unproved as error:
        raise Unproved(f"{name}: {error}") from None
    except Exception as error:
        log.exception("fast path: %s", name)
        first = next(iter(str(error).strip().splitlines()), "")
        raise Unproved(f"{name}: {type(error).__name__}: {first}") from error


def typical_batch(examples: batches.Examples, batch_tokens: int) -> NDArray[np.int64]:
    """A padded batch of rows with the median length, for timing the standard path."""
    lengths = examples.sides(has_encoder=False)
    buckets = batches.bucket(lengths, batch_tokens)
    return buckets[len(buckets) // 2]


def batch_gradient(step: GradientStep, rows: NDArray[np.int64]) -> BatchGradient:
    """The loss and gradient of these rows, computed by one step as in training."""
    step.drop()
    return _batch_gradient(step, step.gradient(rows, seed=0).tolist())


def padded_batch_gradient(step: GradientStep, rows: NDArray[np.int64]) -> BatchGradient:
    """The loss and gradient of these rows, summed over padded batches of at most `batch_tokens` positions."""
    step.drop()
    lengths = step.examples.sides(has_encoder=False)[rows]
    parts = [rows[part] for part in batches.bucket(lengths, step.config.batch_tokens)]
    tokens = int(step.examples.replies[rows].sum())
    step_sums = torch.stack([step.differentiate(step.batch(part), tokens) for part in parts]).sum(0)
    norm = torch.nn.utils.clip_grad_norm_(step.model.parameters(), step.config.max_norm)
    return _batch_gradient(step, [*step_sums.tolist(), float(norm)])


def _batch_gradient(step: GradientStep, step_sums: list[float]) -> BatchGradient:
    nats, _, tokens, norm = step_sums
    gradients = {
        name: p.grad.detach().to("cpu", torch.float32, copy=True)
        for name, p in step.model.named_parameters()
        if p.grad is not None
    }
    return BatchGradient(nats / max(1.0, tokens), norm, gradients)


@torch.no_grad()
def apply_and_undo(step: GradientStep, rate: float, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make one optimizer step and restore the weights; returns the change of each weight."""
    step.update(rate)
    parameters = dict(step.model.named_parameters())
    moves = {}
    for name, before in weights.items():
        moves[name] = parameters[name].detach().cpu().float() - before
        parameters[name].copy_(before)
    return moves


def largest_gradient_error(standard: BatchGradient, fast: BatchGradient) -> float:
    """The largest relative difference between the two paths' gradients of the same weight."""
    return max(
        float((fast.gradients[name] - expected).norm()) / max(1e-30, float(expected.norm()))
        for name, expected in standard.gradients.items()
    )


def check_gradient(standard: BatchGradient, fast: BatchGradient) -> None:
    """Compare the losses and gradients of the two paths.

    Raises:
        Unproved: a difference exceeds its tolerance, or a weight has a gradient on only one of the paths.
    """
    if not abs(fast.loss - standard.loss) <= LOSS * standard.loss:
        raise Unproved(f"the loss is {fast.loss:.4f}, but {standard.loss:.4f} on the standard path")
    if not abs(fast.norm - standard.norm) <= NORM * standard.norm:
        raise Unproved(f"the gradient norm is {fast.norm:.4g}, but {standard.norm:.4g} on the standard path")
    if missing := standard.gradients.keys() ^ fast.gradients.keys():
        raise Unproved(f"{sorted(missing)[0]} has a gradient on only one of the paths")
    whole = _length(standard.gradients.values())
    for name, expected in standard.gradients.items():
        length = float(expected.norm())
        distance = float((fast.gradients[name] - expected).norm())
        if not distance <= GRADIENT * length + TINY * whole:
            raise Unproved(
                f"the gradient of {name} differs by {distance / max(length, 1e-30):.0%} "
                "from the standard path's"
            )


def check_update(standard: dict[str, Tensor], fast: dict[str, Tensor]) -> None:
    """Compare how one optimizer step changes the weights on each of the two paths.

    Raises:
        Unproved: the changes differ by more than the tolerance UPDATE.
    """
    distance = _length(fast[name] - move for name, move in standard.items())
    if not distance <= UPDATE * (length := _length(standard.values())):
        raise Unproved(
            f"the update of the weights differs from the standard path's by "
            f"{distance / max(length, 1e-30):.0%}"
        )


def check_speed(standard_s: float, fast_s: float) -> None:
    """Compare the speeds of the two paths, in seconds per token.

    Raises:
        Unproved: the fast path is slower than the standard path.
    """
    if fast_s > standard_s:
        raise Unproved(
            f"it is slower: {1 / fast_s:,.0f} tokens/s, against {1 / standard_s:,.0f} on the standard path"
        )


def _length(tensors: Any) -> float:
    return float(sum(float(each.double().square().sum()) for each in tensors) ** 0.5)


def seconds_per_token(step: GradientStep, rows: NDArray[np.int64]) -> float:
    """The seconds per token that a training step takes, measured at learning rate 0."""

    def train_once() -> None:
        step.gradient(rows, seed=0)
        step.update(0.0)
        devices.synchronize(step.device)

    return fastest_seconds(train_once) / int(step.examples.lengths[rows].sum())


def main(folder: str, kind: str, precision: str) -> None:
    """Print the result of the proof, or its failure, as JSON; all other output goes to standard error."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # compilers print to standard output, too
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    when_parent_ends(lambda: os._exit(1))
    packed_block.raise_what_does_not_compile()
    try:
        proof = prove(Run.read(Path(folder)), torch.device(kind), precision)
    except Unproved as error:
        proof = {"failure": str(error)}
    print(json.dumps(proof), file=stdout, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
