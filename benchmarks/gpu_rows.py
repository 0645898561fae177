"""The rows of benchmarks/gpu.py, each run in a separate process.

python -m benchmarks.gpu_rows ROW FOLDER DEVICE SECONDS CORPUS    writes FOLDER/.ROW.json
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu import ROOT, Failed, Figures
from benchmarks.gpu_setup import (
    RowSetup,
    keep_path,
    metrics_of,
    read,
    saved_step,
    trainer,
    wait_for,
    work_folder,
)
from benchmarks.peak import flops
from benchmarks.trainer_summary import TrainerSummary
from models import devices
from models.data import batches
from models.devices import FAST_PATH, STANDARD_PATH, FastPath
from models.metrics_log import STEP, VALIDATION
from models.network.llama import packed_block
from models.training.checkpoint import put_json
from models.training.fast_path import proof
from models.training.launch import SUMMARY, Summary
from models.training.precision import fastest_seconds
from models.training.run_folder import Run
from models.training.step import GradientStep

POSITIONS = 8192  # in a step that tests one part: enough for compilation, not too many for a mask
# For each part of the fast path, the path with that part and the path without it.
PARTS = {
    "packing": (FastPath(packed=True), STANDARD_PATH),
    "varlen": (FastPath(packed=True, varlen=True), FastPath(packed=True)),
    "compile": (FAST_PATH._replace(cuda_graph=False), FastPath(packed=True, varlen=True)),
    "graph": (FAST_PATH, FAST_PATH._replace(cuda_graph=False)),
}
KILLED_STEPS, SAVE_SECONDS = 100, 2.0
SAME_LOSS = 0.05  # the largest permitted relative difference: a GPU sums in a different order in each run
SIDES = (4096, 8192)  # sides of square matrices; the peak is the rate of their fastest product


def data(setup: RowSetup) -> Figures:
    """Prepare the run folder whose examples all other rows use."""
    from benchmarks.contest import prepare, write_run

    prepared = prepare("base", setup.corpus, [*setup.changes(), "train.processes=1", "train.max_epochs=1000"])
    (setup.folder / "run").mkdir(exist_ok=True)
    write_run(setup.folder / "run", prepared)
    examples = batches.Examples(batches.read_examples(Run.read(setup.folder / "run").examples, "train"))
    return {"sequences": len(examples), "tokens": len(examples.ids)}


def part(name: str, setup: RowSetup) -> Figures:
    """Check that a step with one part of the fast path gives the same result as the standard path, and
    compare its speed with the speed of a step without that part."""
    on, off = PARTS[name]
    is_tiny = setup.device.type == "cpu"
    run = Run.read(work_folder(setup, name, **({} if is_tiny else {"batch_tokens": POSITIONS})))
    examples, model = read(run, setup.device)
    weights = {key: p.detach().to("cpu", copy=True) for key, p in model.named_parameters()}

    def step(path: FastPath) -> GradientStep:
        gradient_step = GradientStep(model, examples, run.train, workers=1, path=path)
        gradient_step.precision = setup.precision
        return gradient_step

    packing = step(FAST_PATH).packing
    assert packing is not None
    rows = packing.epoch_batches(seed=run.train.seed, epoch=0)[0]
    standard, rate = step(STANDARD_PATH), run.train.learning_rate
    expected = proof.padded_batch_gradient(standard, rows)
    moves = proof.apply_and_undo(standard, rate, weights)
    tried = step(on)
    found = proof.batch_gradient(tried, rows)
    proof.check_gradient(expected, found)
    proof.check_update(moves, proof.apply_and_undo(tried, rate, weights))
    if tried.cuda_graph and tried.cuda_graph.failure:
        raise Failed(tried.cuda_graph.failure)
    typical = proof.typical_batch(examples, run.train.batch_tokens)
    seconds = {
        path: proof.seconds_per_token(step(path), rows if path.packed else typical) for path in (on, off)
    }
    return {
        "loss": found.loss,
        "plain": expected.loss,
        "gradient_away": proof.largest_gradient_error(expected, found),
        "tokens_per_second": 1 / seconds[on],
        "without": 1 / seconds[off],
    }


def memory(setup: RowSetup) -> Figures:
    """Check that the loss and gradient of a padded step stay the same if the batch of the step is split
    for lack of memory."""
    run = Run.read(work_folder(setup, "memory"))
    examples, model = read(run, setup.device)
    rows = proof.typical_batch(examples, run.train.batch_tokens)
    step = GradientStep(model, examples, run.train, workers=1)
    step.precision = setup.precision
    whole = proof.batch_gradient(step, rows)
    step.drop()
    with scarce(step):
        in_parts = proof.batch_gradient(step, rows)
    if step.parts == 1:
        raise Failed("the whole batch fitted into the limited memory, so splitting was not tested")
    proof.check_gradient(whole, in_parts)
    return {"parts": step.parts, "loss": in_parts.loss, "whole": whole.loss}


@contextmanager
def scarce(step: GradientStep) -> Iterator[None]:
    """Inside this context, memory is limited to about two thirds of what a whole batch needs."""
    device = step.device
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        devices.free_memory(device)
        used = torch.cuda.memory_allocated(device)
        limit = used + (peak - used) * 2 / 3
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info(device)[1], device)
        yield
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    differentiate_all: Any = step.differentiate
    full: list[int] = []

    def differentiate(batch: Any, tokens: Any) -> Any:
        full.append(len(batch.inputs_BT))
        if len(batch.inputs_BT) > 2 / 3 * full[0]:
            raise torch.OutOfMemoryError("raised on purpose, as on a device with less memory")
        return differentiate_all(batch, tokens)

    step.differentiate = differentiate  # type: ignore[method-assign]
    yield


def resume(setup: RowSetup) -> Figures:
    """Check that a killed training run resumes, and gives the same result as an uninterrupted run."""
    # With these settings only the number of steps ends the training run, however small the corpus is.
    how = {
        "max_steps": KILLED_STEPS,
        "max_epochs": 1e6,
        "max_minutes": None,
        "patience": None,
        "log_every": 1,
    }
    whole = work_folder(setup, "resume-whole", **how)
    wait_for(trainer(whole), whole)
    cut = work_folder(
        setup, "resume-cut", **how, checkpoint_seconds=SAVE_SECONDS if setup.device.type != "cpu" else 0.01
    )
    keep_path(whole, cut)
    process = trainer(cut)
    try:
        while process.poll() is None and saved_step(cut) == 0:
            time.sleep(0.01)
    finally:
        process.kill()
    if process.wait() != -signal.SIGKILL:
        raise Failed(f"the training ended with status {process.returncode} before it could be killed")
    at = saved_step(cut)
    wait_for(trainer(cut), cut)
    steps = [line["step"] for line in metrics_of(cut, STEP)]
    if steps != list(range(1, KILLED_STEPS + 1)):
        raise Failed(f"the logged steps are {steps[:3]} to {steps[-3:]}, {len(steps)} in all")
    losses = [metrics_of(folder, VALIDATION)[-1]["loss"] for folder in (whole, cut)]
    if abs(losses[1] - losses[0]) > SAME_LOSS * losses[0]:
        raise Failed(f"the validation loss is {losses[1]:.4f} after a kill, {losses[0]:.4f} without one")
    return {"killed_after_checkpoint": at, "loss": losses[1], "whole": losses[0]}


def ours(setup: RowSetup) -> Figures:
    """Useful tokens per second of Repartee's trainer, and its model FLOPs utilization (MFU)."""
    work = work_folder(setup, "ours", max_minutes=setup.limit_s / 60 / 3, log_every=5)
    wait_for(trainer(work), work)
    summary = Summary.read(work / SUMMARY)
    rates = [line["tokens_per_second"] for line in metrics_of(work, STEP)]
    if not rates:
        raise Failed(f"the training made only {summary.steps} steps in the time given; none was logged")
    rate = statistics.harmonic_mean(rates[len(rates) // 10 :])
    peak = peak_flops(setup.device, setup.precision)
    return {
        "tokens_per_second": rate,
        "mfu": rate * flops_a_token(Run.read(work), setup.device) / peak,
        "peak_tflops": peak / 1e12,
        "fast_path": summary.fast_path,
        "precision": summary.precision,
        "parameters": summary.parameters,
        "steps": summary.steps,
    }


def flops_a_token(run: Run, device: torch.device) -> float:
    """Mean FLOPs per token over all examples, by the formula of benchmarks/peak.py."""
    examples, model = read(run, device)
    everything: NDArray[np.int64] = np.arange(len(examples))
    return flops(model, examples, everything, run.train.context_loss) / float(examples.lengths.sum())


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of the fastest square matmul."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    for side in SIDES if device.type != "cpu" else (512,):
        left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))

        def product(left: Any = left, right: Any = right) -> None:
            for _ in range(10):
                torch.mm(left, right)
            devices.synchronize(device)

        best = max(best, 10 * 2 * side**3 / fastest_seconds(product))
    return best


def hf_trainer(setup: RowSetup) -> Figures:
    """Tokens per second and MFU of transformers.Trainer, on the network, examples and precision of `ours`."""
    work = work_folder(setup, "trainer")
    minutes = str(setup.limit_s / 60 / 3)
    how = [f"--precision={setup.precision}", f"--device={setup.device.type}"]
    command = [sys.executable, "-m", "benchmarks.hf_trainer", str(work), "grouped", minutes, *how]
    wait_for(subprocess.Popen(command, cwd=ROOT), work)
    summary = TrainerSummary.read(work / SUMMARY)
    peak = peak_flops(setup.device, setup.precision)
    rate = summary.tokens_per_second
    mfu = rate * flops_a_token(Run.read(work), setup.device) / peak
    return {"tokens_per_second": rate, "mfu": mfu, "steps": summary.steps}


def retrain(setup: RowSetup) -> Figures:
    """Run the whole chain with `repartee run`, from the corpus to a version in service."""
    minutes = setup.limit_s / 60 / 4
    changes = [*setup.changes(), f"train.max_minutes={minutes}", "evaluate.max_replies=500"]
    options = ["--recipe", "base", "--corpus", setup.corpus, "--json"]
    command = [sys.executable, "-m", "cli", "run", *options]
    command += [each for change in changes for each in ("--set", change)]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise Failed(f"repartee run ended with status {process.returncode}; see its last line in the log")
    result = json.loads(process.stdout)
    stages = {stage["name"]: stage["seconds"] for stage in result["stages"]}
    return {
        "outcome": result["outcome"],
        "test_bpb": result["metrics"].get("test_bpb"),
        "seconds": result["seconds"],
        "train_seconds": stages.get("train"),
        "evaluate_seconds": stages.get("evaluate"),
    }


FIGURES: dict[str, Callable[[RowSetup], Figures]] = {
    "data": data,
    **{name: partial(part, name) for name in PARTS},
    "memory": memory,
    "resume": resume,
    "ours": ours,
    "trainer": hf_trainer,
    "retrain": retrain,
}


def main(name: str, folder: str, device: str, limit_s: str, corpus: str) -> None:
    setup = RowSetup(Path(folder), torch.device(device), float(limit_s), corpus)
    packed_block.raise_what_does_not_compile()
    try:
        figures = FIGURES[name](setup)
    except (Failed, proof.Unproved) as error:
        sys.exit(f"{error}")
    put_json(setup.folder / f".{name}.json", figures)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(*sys.argv[1:])
