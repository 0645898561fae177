"""Journal: what a training says of itself, in metrics.jsonl for programs and train.log for people.

Both only grow; a resumed training first cuts what was written after its checkpoint, so that no
step and no epoch is there twice.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "validation_bpb",
    "seconds",
)
HEADER = " ".join(f"{name:>19}" for name in COLUMNS) + "\n"


class Journal:
    """The two files of a run folder."""

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.writes = writes  # one process of a training does
        self.paths = {"metrics": folder / "metrics.jsonl", "log": folder / "train.log"}

    def begin(self, sizes: dict[str, int] | None) -> None:
        """Cut the files to what a checkpoint knew of them; a fresh training begins them anew."""
        if not self.writes:
            return
        for name, path in self.paths.items():
            with path.open("ab") as file:
                file.truncate((sizes or {}).get(name, 0))
        if sizes is None:
            self.paths["log"].write_text(HEADER)

    def sizes(self) -> dict[str, int]:
        return {name: path.stat().st_size for name, path in self.paths.items()}

    def write(self, kind: str, **metrics: Any) -> None:
        if not self.writes:
            return
        line = {"kind": kind, "time": time.time_ns() // 1_000_000, **metrics}
        with self.paths["metrics"].open("a") as file:
            file.write(json.dumps(line) + "\n")

    def write_epoch(self, **m: Any) -> None:
        """The epoch's line in both files; the readable one is on the disk when this returns."""
        if not self.writes:
            return
        self.write("epoch", **m)
        with self.paths["log"].open("a") as file:
            file.write(" ".join(f"{m[name]:>19.6g}" for name in COLUMNS) + "\n")
            file.flush()
            os.fsync(file.fileno())
