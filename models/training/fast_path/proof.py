"""Proof: does the fast path teach what the plain one does, and sooner?

Both start from the same weights, in the same precision, with the same rows, which are the first step of the
fast path's. They are compared part by part, so that a failure has a name: packing with the kernel for
sequences of unlike lengths, the compiled blocks, the CUDA graph; then one update, and the time of a step.

python -m models.training.fast_path.proof RUN_DIR DEVICE PRECISION

prints one JSON object on standard output, for models/training/fast_path/choice.py.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
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
from models.training import initial_weights
from models.training.fast_path import packing
from models.training.precision import fastest_seconds
from models.training.run_folder import Run
from models.training.seeding import seed_everything
from models.training.step import GradientStep

log = logging.getLogger(__name__)

# How far the fast path may be from the plain one, in bfloat16. Two correct ways are 0.01 % apart in the
# loss, 0.3 % in the gradient of any weight and 5 % in a step of Muon, which makes the small as long as the
# large; sequences that see each other or what follows are 1 %, 60 % and 100 % apart (docs/log.md).
LOSS = 0.005  # of the plain path's
NORM = 0.05  # of the plain path's
GRADIENT = 0.2  # of the length of a weight's gradient
UPDATE = 0.5  # of the length of the whole update
TINY = 1e-3  # of the whole gradient's length: one weight's gradient below it is rounding

PARTS = {
    "packing with the variable-length kernel": FastPath(packed=True, varlen=True),
    "the compiled blocks": FastPath(packed=True, varlen=True, compiled=True),
    "the CUDA graph": FAST_PATH,
}


class Unproved(Exception):
    """The fast path is not to be trained on; the message says which part failed and how."""


@dataclass(frozen=True)
class BatchGradient:
    """What one batch teaches: the loss and the gradient, on the CPU."""

    loss: float
    norm: float
    gradients: dict[str, Tensor]


def prove(run: Run, device: torch.device, precision: str) -> dict[str, Any]:
    """The figures of both paths.

    Raises:
        Unproved: the fast path teaches something else, raises, or is slower.
    """
    began_s = time.monotonic()
    examples = batches.Examples(batches.read_examples(run.examples, "train"))
    seed_everything(run.train.seed)
    model, _ = initial_weights.load_initial_weights(run)
    model.to(device)  # type: ignore[arg-type]
    weights = {
        name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if p.requires_grad
    }

    def step(path: FastPath) -> GradientStep:
        made = GradientStep(model, examples, run.train, workers=1, path=path)
        made.precision = precision
        return made

    plain = step(STANDARD_PATH)
    fast_rows = cast(packing.Packing, step(FAST_PATH).packing).epoch_batches(seed=run.train.seed, epoch=0)[0]
    expected = padded_batch_gradient(plain, fast_rows)
    moves = apply_and_undo(plain, run.train.learning_rate, weights)
    plain_s = seconds_per_token(plain, typical_batch(examples, run.train.batch_tokens))
    del plain
    seconds = {}
    for name, path in PARTS.items():
        since_s = time.monotonic()
        fast = step(path)
        with _named(name):
            check_gradient(expected, batch_gradient(fast, fast_rows))
            failure = fast.cuda_graph and fast.cuda_graph.failure
        if failure:
            raise Unproved(f"{name}: {failure}")
        seconds[name] = time.monotonic() - since_s
    with _named("an update"):
        check_update(moves, apply_and_undo(fast, run.train.learning_rate, weights))
    fast_s = seconds_per_token(fast, fast_rows)
    check_speed(plain_s, fast_s)
    return {
        "loss": expected.loss,
        "norm": expected.norm,
        "tokens_per_second": {"fast": 1 / fast_s, "plain": 1 / plain_s},
        "seconds": time.monotonic() - began_s,
        "seconds_compiling": max(0.0, seconds["the compiled blocks"] - seconds["the CUDA graph"]),
    }


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is raised inside says which part it is of."""
    try:
        yield
    except Unproved as error:
        raise Unproved(f"{name}: {error}") from None
    except Exception as error:
        log.exception("fast path: %s", name)
        first = next(iter(str(error).strip().splitlines()), "")
        raise Unproved(f"{name}: {type(error).__name__}: {first}") from error


def typical_batch(examples: batches.Examples, batch_tokens: int) -> NDArray[np.int64]:
    """A padded batch of the middle length: what the plain path is timed on."""
    lengths = examples.sides(has_encoder=False)
    found = batches.bucket(lengths, batch_tokens)
    return found[len(found) // 2]


def batch_gradient(step: GradientStep, rows: NDArray[np.int64]) -> BatchGradient:
    """By a step of the training."""
    step.drop()
    return _batch_gradient(step, step.gradient(rows, seed=0).tolist())


def padded_batch_gradient(step: GradientStep, rows: NDArray[np.int64]) -> BatchGradient:
    """The same rows by batches of like lengths, of which none takes more memory than a step does."""
    step.drop()
    lengths = step.examples.sides(has_encoder=False)[rows]
    parts = [rows[part] for part in batches.bucket(lengths, step.config.batch_tokens)]
    tokens = int(step.examples.replies[rows].sum())
    told = torch.stack([step.differentiate(step.batch(part), tokens) for part in parts]).sum(0)
    norm = torch.nn.utils.clip_grad_norm_(step.model.parameters(), step.config.max_norm)
    return _batch_gradient(step, [*told.tolist(), float(norm)])


def _batch_gradient(step: GradientStep, told: list[float]) -> BatchGradient:
    nats, _, tokens, norm = told
    gradients = {
        name: p.grad.detach().to("cpu", torch.float32, copy=True)
        for name, p in step.model.named_parameters()
        if p.grad is not None
    }
    return BatchGradient(nats / max(1.0, tokens), norm, gradients)


@torch.no_grad()
def apply_and_undo(step: GradientStep, rate: float, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """How the gradient that lies at the weights moves them; they are then put back."""
    step.update(rate)
    parameters = dict(step.model.named_parameters())
    moves = {}
    for name, before in weights.items():
        moves[name] = parameters[name].detach().cpu().float() - before
        parameters[name].copy_(before)
    return moves


def largest_gradient_error(plain: BatchGradient, fast: BatchGradient) -> float:
    """How far a weight's gradient is from the plain path's, of its length, at most."""
    return max(
        float((fast.gradients[name] - expected).norm()) / max(1e-30, float(expected.norm()))
        for name, expected in plain.gradients.items()
    )


def check_gradient(plain: BatchGradient, fast: BatchGradient) -> None:
    """Raises Unproved where they differ by more than the rounding of two correct ways."""
    if not abs(fast.loss - plain.loss) <= LOSS * plain.loss:
        raise Unproved(f"loss {fast.loss:.4f}, on the plain path {plain.loss:.4f}")
    if not abs(fast.norm - plain.norm) <= NORM * plain.norm:
        raise Unproved(f"gradient norm {fast.norm:.4g}, on the plain path {plain.norm:.4g}")
    if missing := plain.gradients.keys() ^ fast.gradients.keys():
        raise Unproved(f"{sorted(missing)[0]} has a gradient on one of the paths alone")
    whole = _length(plain.gradients.values())
    for name, expected in plain.gradients.items():
        length = float(expected.norm())
        away = float((fast.gradients[name] - expected).norm())
        if not away <= GRADIENT * length + TINY * whole:
            raise Unproved(
                f"the gradient of {name} is {away / max(length, 1e-30):.0%} away from the plain path's"
            )


def check_update(plain: dict[str, Tensor], fast: dict[str, Tensor]) -> None:
    away = _length(fast[name] - move for name, move in plain.items())
    if not away <= UPDATE * (length := _length(plain.values())):
        raise Unproved(
            f"the weights move {away / max(length, 1e-30):.0%} away from where the plain path moves them"
        )


def check_speed(plain_s: float, fast_s: float) -> None:
    if fast_s > plain_s:
        raise Unproved(f"it is slower: {1 / fast_s:,.0f} tokens/s, {1 / plain_s:,.0f} on the plain path")


def _length(tensors: Any) -> float:
    return float(sum(float(each.double().square().sum()) for each in tensors) ** 0.5)


def seconds_per_token(step: GradientStep, rows: NDArray[np.int64]) -> float:
    """Of a step that leaves the weights where they are."""

    def learn() -> None:
        step.gradient(rows, seed=0)
        step.update(0.0)
        devices.wait(step.device)

    return fastest_seconds(learn) / int(step.examples.lengths[rows].sum())


def main(folder: str, kind: str, precision: str) -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # compilers print, too
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    packed_block.raise_what_does_not_compile()
    try:
        proof = prove(Run.read(Path(folder)), torch.device(kind), precision)
    except Unproved as error:
        proof = {"failure": str(error)}
    print(json.dumps(proof), file=answer, flush=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
