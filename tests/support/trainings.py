"""Small training runs and their data, which the tests of the trainer share."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.data.schemas import EXAMPLES
from models.network import networks
from models.text import tokenizer
from models.text.tokenizer import END, START
from models.training import trainer

WORDS = "abcdefghijklmnop"
NETWORK = {"n_layer": 1, "n_head": 2, "width": 16}


def examples(rows: int, seed: int, split: str) -> pa.Table:
    """Exchanges in which the reply repeats the question, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(rows):
        turn = rng.integers(4, 4 + len(WORDS), rng.integers(1, 5)).tolist()
        ids = [START, *turn, END, *turn, END]
        records.append(
            {
                "ids": ids,
                "is_reply": [position >= len(turn) + 2 for position in range(len(ids))],
                "conversation_id": str(i),
                "turn": 1,
                "group": str(i % 5),
                "split": split,
                "replies": 1,
                "reply_bytes": len(turn),
                "spelled_nats": 0.0,
            }
        )
    return pa.Table.from_pylist(records, EXAMPLES)


def make_data(folder: Path) -> Path:
    """Write the folders examples/ and tokenizer/ as the stages export and vocabulary write them."""
    for name in ("examples", "tokenizer"):
        (folder / name).mkdir()
    pq.write_table(examples(60, 0, "train"), folder / "examples" / "train.parquet")
    pq.write_table(examples(20, 1, "validation"), folder / "examples" / "validation.parquet")
    dialogue = {"normalisation": "plain", "markup": {"unit": "pair", "max_tokens": 16}}
    (folder / "examples" / "dialogue.json").write_text(json.dumps(dialogue))
    learnt = tokenizer.learn_words([" ".join(WORDS)], min_count=1)
    tokenizer.save(learnt, [1.0] * 257, folder / "tokenizer")
    (folder / "tokenizer" / "manifest.json").write_text("{}")
    return folder


def assert_loss_is_that_of_the_logits(training: Any, *, first: int = 0) -> None:
    """Check the loss of a step on four rows, whose ids before the position `first` + 1 carry no loss.

    Positions whose next id is not part of a reply count half (context_loss=0.5).
    """
    part = training.step.batch(np.arange(4))
    logits_BTV = networks.lm_head(training.model)(networks.hidden_states(training.model, part)).detach()
    by_hand = {True: 0.0, False: 0.0}
    for row in range(4):
        ids, is_reply = training.examples.row(row)
        for position in range(first, len(ids) - 1):
            log_probs = logits_BTV[row, position].log_softmax(-1)
            by_hand[bool(is_reply[position + 1])] -= float(log_probs[ids[position + 1]])
    total, nats_N, _, is_reply_N = training.step.forward(part)
    assert float(total.detach()) == pytest.approx(by_hand[True] + 0.5 * by_hand[False], rel=1e-2)
    assert float(nats_N[is_reply_N].sum()) == pytest.approx(by_hand[True], rel=1e-2)


def run_folder(
    data: Path, folder: Path, *, network: Any = None, precision: str = "fp32", **train: Any
) -> Path:
    folder.mkdir(parents=True)
    config = {
        "network": {**NETWORK, **(network or {})},
        "train": {"batch_tokens": 64, "max_epochs": 3, "log_every": 3, "warmup_steps": 2, **train},
        "markup": {"unit": "pair", "max_tokens": 16},
        "normalisation": "plain",
        "tokenizer": str(data / "tokenizer"),
        "examples": str(data / "examples"),
    }
    (folder / "config.json").write_text(json.dumps(config))
    # The trainer would choose the precision by measured speed, and the choice could vary between tests.
    (folder / "precision.json").write_text(json.dumps({"precision": precision}))
    # The preflight is skipped: it has its own tests, and takes longer than such a small training run.
    (folder / "preflight.json").write_text("{}")
    return folder


def train(folder: Path) -> bool:
    return trainer.train(folder, threading.Event())


def lines(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in parsed if kind in (None, line["kind"])]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def timeless(folder: Path) -> list[dict[str, Any]]:
    timed = ("time", "seconds", "seconds_left", "tokens_per_second")
    logged = [line for line in lines(folder) if line["kind"] != "system"]  # sampled by the clock
    return [{k: v for k, v in line.items() if k not in timed} for line in logged]


class StopAt(threading.Event):
    """A stop event that is set at a given step, because the trainer checks the event once per step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0
