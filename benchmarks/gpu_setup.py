"""Code that the rows of benchmarks/gpu.py share: their settings, run folders and the trainer process."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import ROOT, Failed, Figures
from models.data import batches
from models.metrics_log import METRICS, Reader, of_kind
from models.training import initial_weights
from models.training.launch import PRECISION
from models.training.precision import PrecisionChoice
from models.training.run_folder import Run
from models.training.setup import seed_everything

# On a GPU, `base` is trained on this many turns; on a CPU, the rows are only tried with a tiny network.
TURNS = 50_000
TINY = (
    "network.n_layer=2",
    "network.n_head=2",
    "network.width=32",
    "train.batch_tokens=512",
    "vocabulary.size=512",
    "download.sample_turns=2000",
)


class RowSetup(NamedTuple):
    """The folder, device, time limit and corpus of a row."""

    folder: Path
    device: torch.device
    limit_s: float
    corpus: str = "sample"

    @property
    def precision(self) -> str:
        return "bf16" if self.device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"

    def changes(self) -> list[str]:
        return list(TINY) if self.device.type == "cpu" else [f"download.sample_turns={TURNS}"]


def work_folder(setup: RowSetup, name: str, **train: Any) -> Path:
    """Create a run folder with this name and these training settings; an existing folder is replaced."""
    folder = setup.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((setup.folder / "run" / "config.json").read_text())
    config["train"].update(train)
    (folder / "config.json").write_text(json.dumps(config))
    # All rows use this precision. Without this file, the trainer would choose a precision by timing.
    PrecisionChoice(precision=setup.precision).write(folder / PRECISION)
    return folder


def read(run: Run, device: torch.device) -> tuple[batches.Examples, Any]:
    """The training examples, and the network with its initial weights."""
    examples = batches.Examples(batches.read_examples(run.examples, "train"))
    seed_everything(run.train.seed)
    model, _ = initial_weights.load_initial_weights(run)
    return examples, model.to(device)  # type: ignore[arg-type]


def trainer(work: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "models.training.trainer", str(work)], cwd=ROOT)


def wait_for(process: subprocess.Popen[bytes], work: Path) -> None:
    """Wait until the training has ended.

    Raises:
        Failed: the training ended with an error.
    """
    if status := process.wait():
        raise Failed(f"the training in {work} ended with status {status}")


def keep_path(one: Path, other: Path) -> None:
    """Make the second training run take the path (fast or standard) that the first run took."""
    if (found := one / "fast_path.json").exists():
        (other / found.name).write_bytes(found.read_bytes())


def saved_step(work: Path) -> int:
    return max((int(path.name) for path in (work / "checkpoints").glob("[0-9]*")), default=0)


def metrics_of(work: Path, kind: str) -> list[Figures]:
    return of_kind(Reader(work / METRICS).read(), kind)
