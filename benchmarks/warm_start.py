"""Measures the gain of a warm start: compares the loss of training from scratch with the loss of training
from an earlier model.

    python -m benchmarks.warm_start standin.zip warm_start.png --steps 120

A first model with its own vocabulary is trained on half of the films. Then two models are trained on the
whole corpus, one from scratch and one from the first model, with the same order of batches and the same
learning rates.
"""

import argparse
import json
import tempfile
import threading
from pathlib import Path

from environment import quiet_environment

quiet_environment()

import matplotlib.pyplot as plt  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from corpus.cleaning.clean import clean_turns  # noqa: E402
from corpus.cleaning.config import CleanConfig  # noqa: E402
from corpus.download import DownloadConfig, download_corpus, find_corpus  # noqa: E402
from corpus.readers.parse import parse_corpus  # noqa: E402
from corpus.readers.parsing import ParseConfig  # noqa: E402
from models.data.examples import export_examples  # noqa: E402
from models.metrics_log import METRICS, STEP, Reader, of_kind  # noqa: E402
from models.text.config import DIALOGUE, Dialogue, MarkupConfig  # noqa: E402
from models.text.vocabulary import VocabularyConfig, learn_vocabulary  # noqa: E402
from models.training import trainer  # noqa: E402
from models.training.launch import SUMMARY, Summary  # noqa: E402


def learn(folder: Path, turns: Path, steps: int, start: Path | None = None) -> list[tuple[int, float]]:
    """Train a small model on these turns, write it to folder/run/model, and return (step, loss) pairs."""
    for name in ("vocabulary", "export", "run"):
        (folder / name).mkdir(parents=True)
    size = VocabularyConfig(size=2048)
    learn_vocabulary(folder / "vocabulary", size, turns)
    export_examples(folder / "export", MarkupConfig(), turns, folder / "vocabulary")
    config = {
        **Dialogue.read(folder / "export" / DIALOGUE).model_dump(),
        "network": {"n_layer": 3, "n_head": 4, "width": 128},
        "train": {
            "learning_rate": 1e-2,
            "batch_tokens": 3072,
            "max_steps": steps,
            "log_every": 5,
            "validations": 1,
        },
        "tokenizer": str(folder / "vocabulary"),
        "examples": str(folder / "export"),
        "start": start and str(start),
    }
    (folder / "run" / "config.json").write_text(json.dumps(config))
    trainer.train(folder / "run", threading.Event())
    lines = Reader(folder / "run" / METRICS).read()
    return [(line["step"], line["loss"]) for line in of_kind(lines, STEP)]


def halve(turns: Path, out: Path) -> Path:
    """Write the turns of every other group into a new folder."""
    out.mkdir()
    table = pq.read_table(turns / "turns.parquet")
    groups = sorted(set(table["group"].to_pylist()))[::2]
    half = table.filter(pc.is_in(table["group"], value_set=pa.array(groups)))
    pq.write_table(half, out / "turns.parquet")
    (out / "report.json").write_text((turns / "report.json").read_text())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("plot", type=Path)
    parser.add_argument("--steps", type=int, default=120)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("raw", "parsed", "clean"):
            (root / name).mkdir()
        source = DownloadConfig(corpus=arguments.corpus)
        download_corpus(root / "raw", source, corpus=find_corpus(source, root))
        parse_corpus(root / "parsed", ParseConfig(), root / "raw")
        clean_turns(root / "clean", CleanConfig(), root / "parsed")
        learn(root / "first", halve(root / "clean", root / "half"), arguments.steps)
        start = root / "first" / "run" / "model"
        curves = {
            "from scratch": learn(root / "scratch", root / "clean", arguments.steps),
            "warm start": learn(root / "warm", root / "clean", arguments.steps, start),
        }
        summary = Summary.read(root / "warm" / "run" / SUMMARY).model_dump()
    for name, points in curves.items():
        plt.plot(*zip(*points, strict=True), label=name)
        print(
            f"{name}: " + ", ".join(f"step {step} {loss:.3f}" for step, loss in points[:: len(points) // 6])
        )
    print({name: count for name, count in summary.items() if name.startswith("start_tokens")})
    plt.xlabel("step")
    plt.ylabel("loss, nats per token")
    plt.legend()
    plt.savefig(arguments.plot, dpi=120)


if __name__ == "__main__":
    main()
