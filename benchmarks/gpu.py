"""Checks whether training works on this machine's GPU, and measures its speed, within twenty minutes.

python -m benchmarks.gpu [--minutes 20] [--out var/gpu-benchmark] [--corpus sample] [--device cuda|mps|cpu]
    the row `trainer` needs the extra `benchmarks`; `--device cpu` tries the rows on a tiny network

The rows of the table are: each part of the fast path, on and off, compared with the standard path; a batch
that does not fit into memory; a training run that is killed and resumed; the throughput of the recipe `base`
and its share of the GPU's peak (MFU); the same two measurements for transformers.Trainer on the same network
and examples; and a complete run of `retrain` with the recipe `base`. Each row runs in a separate process with
its share of --minutes. If a row fails, hangs or corrupts the GPU's state, the table shows the row's error.
In the --out folder, results.json has the results and logs/ has the output of each row. If the benchmark is
stopped, the same command resumes it: it repeats failed rows but not finished ones. The exit status is 0 if
all rows are done, 1 if a row has failed, and 2 if there is no GPU or the --out folder cannot be used.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from models.errors import InputError
from models.training.checkpoint import put_json

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "results.json"

Figures = dict[str, Any]


class Row(NamedTuple):
    """A row of the table, and what is needed to run it."""

    name: str
    share: float  # of --minutes
    what: str
    after: tuple[str, ...] = ()  # the rows that must be done before this row
    kinds: tuple[str, ...] = ("cuda", "mps", "cpu")  # the kinds of devices on which this row can run


FAST_PATH_KINDS = ("cuda", "cpu")  # on a CPU (no kernel, compiler or graphs), they test only the logic
ROWS = (
    Row("data", 0.10, "the examples of the recipe"),
    Row("packing", 0.04, "packed sequences against padded sequences", ("data",), FAST_PATH_KINDS),
    Row(
        "varlen",
        0.04,
        "the kernel for sequences of different lengths against a mask",
        ("data",),
        FAST_PATH_KINDS,
    ),
    Row("compile", 0.08, "compiled blocks against blocks in eager mode", ("data",), FAST_PATH_KINDS),
    Row("graph", 0.08, "a CUDA graph against kernels launched one by one", ("data",), FAST_PATH_KINDS),
    Row("memory", 0.04, "a batch that does not fit into memory", ("data",)),
    Row("resume", 0.17, "a training run that is killed and resumed", ("data",)),
    Row("ours", 0.12, "throughput of `base`", ("data",)),
    Row("trainer", 0.10, "throughput of transformers.Trainer, length-grouped", ("data",)),
    Row("retrain", 0.23, "a complete `repartee run --recipe base`"),
)

Start = Callable[[Row, Path, str, float], Figures]


class Failed(Exception):
    """A row has failed; the message gives the error in one line."""


class Results:
    """The results of all rows tried so far, in one file that is written atomically."""

    about: Figures
    rows: dict[str, Figures]

    def __init__(self, folder: Path, about: Figures) -> None:
        self.path = folder / RESULTS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = json.loads(self.path.read_text()) if self.path.exists() else {"about": about, "rows": {}}
            self.about, self.rows = dict(found["about"]), dict(found["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{self.path} cannot be used: {type(error).__name__}: {error}"
            raise InputError(f"{message}; give another --out") from None
        for name, value in about.items():
            if self.about.get(name) != value:
                message = f"{self.path} was measured with {name} {self.about.get(name)}, not {value}"
                raise InputError(f"{message}; give another --out, or remove that folder")

    def is_done(self, name: str) -> bool:
        return bool(self.rows.get(name, {}).get("status") == "done")

    def put(self, name: str, row: Figures) -> None:
        self.rows[name] = row
        put_json(self.path, {"about": self.about, "rows": self.rows})


def measure(results: Results, folder: Path, device: str, minutes: float, start: Start) -> None:
    """Run all unfinished rows; a failed row does not stop the next ones."""
    for number, row in enumerate(ROWS, start=1):
        if results.is_done(row.name):
            continue
        began_s = time.monotonic()
        missing = [name for name in row.after if not results.is_done(name)]
        print(f"{number}/{len(ROWS)} {row.name}: {row.what}", file=sys.stderr)
        if device not in row.kinds:
            row_result: Figures = {"status": "left out", "error": f"cannot run on {device}"}
        elif missing:
            row_result = {"status": "failed", "error": f"needs the row {missing[0]}, which is not done"}
        else:
            try:
                row_result = {
                    "status": "done",
                    "figures": start(row, folder, device, 60 * minutes * row.share),
                }
            except Failed as error:
                row_result = {"status": "failed", "error": str(error)}
        results.put(row.name, {**row_result, "seconds": round(time.monotonic() - began_s, 1)})


def start_row(
    row: Row, folder: Path, device: str, limit_s: float, *, corpus: str, kill_after_s: float | None = None
) -> Figures:
    """Run a row in a separate process; return the results that this process writes.

    The row fits its measurements into `limit_s`. Its process is killed after `kill_after_s`, or if that is
    None, after `limit_s`.

    Raises:
        Failed: the process failed or was killed.
    """
    kill_after_s = kill_after_s or limit_s
    answer, log = folder / f".{row.name}.json", folder / "logs" / f"{row.name}.log"
    answer.unlink(missing_ok=True)
    log.parent.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu_rows",
        row.name,
        str(folder.resolve()),
        device,
        str(limit_s),
        corpus,
    ]
    with log.open("wb") as said:
        status = run_to_end(command, environment(folder, device), said, kill_after_s)
    if status is None:
        raise Failed(f"took longer than {kill_after_s:.0f} s; last line of the log: {last_line(log) or ''}")
    if status or not answer.exists():
        raise Failed(last_line(log) or f"ended with status {status} and an empty log")
    figures: Figures = json.loads(answer.read_text())
    answer.unlink()
    return figures


def environment(folder: Path, device: str) -> dict[str, str]:
    """The environment variables of a row: a separate home, and one GPU (transformers.Trainer would use all
    GPUs)."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
    }
    first = given.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        **given,
        "REPARTEE_HOME": str((folder / "home").resolve()),
        "CUDA_VISIBLE_DEVICES": first if device == "cuda" else "",
        "PYTORCH_ENABLE_MPS_FALLBACK": "1",
    }


def run_to_end(command: Sequence[str], environment: dict[str, str], said: Any, limit_s: float) -> int | None:
    """Run a command, then kill all its processes; return its exit status, or None if it took too long."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):  # all processes have already ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def table(results: Results) -> str:
    """The Markdown table, followed by a line with the machine and the versions."""
    lines = ["| row | what | | figures | s |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        row_result = results.rows.get(row.name, {"status": "not tried", "seconds": 0})
        figures = ", ".join(f"{name} {shown(value)}" for name, value in row_result.get("figures", {}).items())
        text = row_result.get("error", figures).replace("|", "\\|")
        lines.append(
            f"| {row.name} | {row.what} | {row_result['status']} | {text} | {row_result['seconds']:.0f} |"
        )
    ours, theirs = (results.rows.get(name, {}).get("figures") for name in ("ours", "trainer"))
    if ours and theirs:
        ratio = ours["tokens_per_second"] / theirs["tokens_per_second"]
        lines.append(f"| | tokens/s of Repartee / tokens/s of transformers.Trainer | | {ratio:.2f} | |")
    about = ", ".join(f"{name} {value}" for name, value in results.about.items())
    return "\n".join([*lines, "", f"Measured with {about}."])


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def device_of(kind: str | None) -> Any:
    """The device to measure on.

    Raises:
        InputError: there is no such GPU, and `--device cpu` was not given.
    """
    import torch

    from models import devices

    found = devices.best()
    if kind != "cpu" and found.type != kind and (kind or found.type == "cpu"):
        missing = f"torch {torch.__version__} sees no {f'{kind} ' if kind else ''}GPU here"
        raise InputError(f"{missing}; `repartee doctor` says why; give --device cpu to try a tiny network")
    return torch.device(kind or found.type)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=20, help="time for all rows (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("var/gpu-benchmark"), help="results folder (default: %(default)s)"
    )
    parser.add_argument("--corpus", default="sample", help="as for `repartee run` (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), help="what to measure (default: the GPU)")
    arguments = parser.parse_args()
    if arguments.minutes <= 0:
        parser.error(f"--minutes is {arguments.minutes:g}; give more than 0")
    if Path(arguments.corpus).exists():  # the rows run in another directory
        arguments.corpus = str(Path(arguments.corpus).resolve())
    try:
        device = device_of(arguments.device)
        results = Results(arguments.out, about(arguments, device))
    except InputError as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 2
    try:
        measure(
            results,
            arguments.out,
            device.type,
            arguments.minutes,
            partial(start_row, corpus=arguments.corpus),
        )
    except KeyboardInterrupt:
        print(f"stopped; finished rows are in {results.path}; the same command resumes", file=sys.stderr)
        return 130
    print(table(results))
    return 0 if all(each["status"] != "failed" for each in results.rows.values()) else 1


def about(arguments: argparse.Namespace, device: Any) -> Figures:
    """The conditions under which all results of one table are measured."""
    import torch

    from models import devices

    return {
        "device": devices.device_name(device),
        "torch": torch.__version__,
        "corpus": arguments.corpus,
        "minutes": arguments.minutes,
    }


if __name__ == "__main__":
    sys.exit(main())
