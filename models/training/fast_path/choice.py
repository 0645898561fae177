"""The choice between the fast path, which needs a CUDA GPU, and the standard path.

The fast path is used only after a proof that it computes the same loss and gradient as the standard path. The
proof (models/training/fast_path/proof.py) runs in a separate process, before the trainer allocates memory on
the GPU. If a kernel crashes, hangs or corrupts the GPU's state during the proof, the trainer's weights,
optimizer and random generators are unaffected. The run folder's fast_path.json records the choice and its
reason.
"""

import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
from transformers import PreTrainedModel

from models import devices
from models.devices import FAST_PATH, STANDARD_PATH, FastPath
from models.errors import InputError
from models.files import PROJECT
from models.training import checkpoint
from models.training.distributed import ProcessGroup
from models.training.fast_path import packing
from models.training.precision import choose_precision
from models.training.run_folder import Run

log = logging.getLogger(__name__)

RECORD, LOG = "fast_path.json", "fast_path.log"
LIMIT_SECONDS = 900  # how long the proof may take, including compilation
POLL_SECONDS = 0.2


class Stopped(Exception):
    """The trainer was asked to stop during the proof."""


def choose_path(
    run: Run, model: PreTrainedModel, device: torch.device, group: ProcessGroup, stop: threading.Event
) -> FastPath:
    """The path that all processes of this run use; a run resumed on the same kind of GPU keeps its path.

    Raises:
        InputError: `train.fast_path` is `on`, but the fast path cannot be used.
    """
    if run.train.fast_path == "off":
        return STANDARD_PATH
    reason = packing.unsupported_reason(model, device)
    if not all(able for (able,) in group.all_gather(float(reason is None))):
        _refuse_if_on(run, reason or "the GPU of another process does not support the fast path")
        return STANDARD_PATH
    is_fast = group.is_main and _is_proved(run, device, stop)
    return FAST_PATH if group.all_gather(float(is_fast))[0][0] else STANDARD_PATH


def _refuse_if_on(run: Run, reason: str) -> None:
    if run.train.fast_path == "on":
        raise InputError(
            f"train.fast_path is on, but the fast path cannot be used: {reason}; "
            "give --set train.fast_path=auto"
        )


def _is_proved(run: Run, device: torch.device, stop: threading.Event) -> bool:
    """Whether an earlier proof for this device, or a new one, has shown that the fast path can be used."""
    precision = choose_precision(run.folder, device, lambda _: math.inf)
    if precision != "bf16":
        _refuse_if_on(run, "this run trains in float32, which the attention kernel does not support")
        return False
    about = {"device": devices.device_name(device), "torch": torch.__version__}
    path = run.folder / RECORD
    recorded = _recorded_path(path, about)
    if recorded == "fast" or (recorded == "plain" and run.train.fast_path == "auto"):
        return recorded == "fast"
    began_s = time.monotonic()
    log.info("fast path: comparing one batch with the standard path; compilation may take a minute or two")
    try:
        proof = _prove_apart(run, device, precision, stop)
    except Stopped:
        return False
    reason = proof.pop("failure", None)
    record = {"path": "plain" if reason else "fast", "failure": reason, **about, **proof}
    checkpoint.put_json(path, record)
    if reason is None:
        log.info("fast path: verified in %.0f s: %s", time.monotonic() - began_s, _summary(proof))
        return True
    _refuse_if_on(run, reason)
    log.warning("training uses the standard path instead of the fast path: %s (%s)", reason, run.folder / LOG)
    return False


def _recorded_path(path: Path, about: dict[str, str]) -> str | None:
    """The path that was recorded for this device and torch version; None if there is no such record."""
    try:
        record = json.loads(path.read_text())
        return str(record["path"]) if about.items() <= record.items() else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is ignored: %s: %s", path, type(error).__name__, error)
        return None


def _summary(proof: dict[str, Any]) -> str:
    speed = {name: proof["tokens_per_second"][name] for name in ("fast", "plain")}
    return f"{speed['fast']:,.0f} tokens/s, against {speed['plain']:,.0f} on the standard path"


def _prove_apart(run: Run, device: torch.device, precision: str, stop: threading.Event) -> dict[str, Any]:
    """Run the proof in a separate process; return its printed result, or the reason for its failure.

    Raises:
        Stopped: the trainer was asked to stop before the proof had ended.
    """
    command = [
        sys.executable,
        "-m",
        "models.training.fast_path.proof",
        str(run.folder),
        device.type,
        precision,
    ]
    group = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in group}
    with (run.folder / LOG).open("wb") as errors, _process(command, environment, errors) as process:
        deadline_s = time.monotonic() + LIMIT_SECONDS
        while process.poll() is None:
            if stop.is_set():
                raise Stopped
            if time.monotonic() > deadline_s:
                return {"failure": f"the proof took longer than {LIMIT_SECONDS / 60:g} minutes"}
            time.sleep(POLL_SECONDS)
        output = cast(IO[bytes], process.stdout).read().decode(errors="replace").strip()
    if process.returncode == 0:
        return cast(dict[str, Any], json.loads(output))
    lines = (run.folder / LOG).read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it gave no reason"
    return {"failure": f"the proof ended with status {process.returncode}: {last}"}


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], errors: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that ends when this process ends, because it watches the pipe on its standard input."""
    process = subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        cast(IO[bytes], process.stdin).close()
