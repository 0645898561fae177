"""Training: `python -m models.training RUN_DIR` makes a model of examples, and can be killed at any step.

It knows neither Prefect nor MLflow: config.json in; metrics.jsonl, train.log, checkpoints, then
model/ and summary.json out. Ends with 0 done, 2 the user can mend it, 143 told to stop.
"""

import argparse
import json
import logging
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from torch import Tensor
from transformers import PreTrainedModel

from models import batches, checkpoint, metrics, networks, tokenizer
from models.config import MarkupConfig, NetworkConfig, TrainConfig
from models.errors import InputError
from models.journal import Journal
from models.optimizers import Optimizer, rate_at

log = logging.getLogger(__name__)

VALIDATION_TOKENS = 30_000  # a look costs about as much as four steps of 4,096 tokens
LOCK_SECONDS = 30  # a trainer that was told to end needs some to write its checkpoint


@dataclass
class State:
    """Where a training stands; with the weights and the chances, all that a checkpoint needs."""

    step: int = 0
    epoch: int = 0
    place: int = 0  # the next batch of this epoch
    looks: int = 0  # at validation, of the evenly spaced ones
    validated_step: int = -1
    elapsed_s: float = 0.0
    tokens: int = 0  # read so far, padding not counted
    best_bpb: float = math.inf
    best_step: int = 0
    epoch_sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # nats, correct, reply tokens
    journal: dict[str, int] | None = None


@dataclass(frozen=True)
class Run:
    """A run folder and what its config.json asks for."""

    folder: Path
    network: NetworkConfig
    train: TrainConfig
    markup: MarkupConfig
    normalisation: str
    tokenizer: Path
    examples: Path

    @classmethod
    def read(cls, folder: Path) -> "Run":
        asked = json.loads((folder / "config.json").read_text())
        return cls(
            folder=folder,
            network=NetworkConfig(**asked["network"]),
            train=TrainConfig(**asked["train"]),
            markup=MarkupConfig(**asked["markup"]),
            normalisation=asked["normalisation"],
            tokenizer=Path(asked["tokenizer"]),
            examples=Path(asked["examples"]),
        )


class Trainer:
    """One training: the loop, and all that it changes."""

    def __init__(self, run: Run, stop: threading.Event) -> None:
        self.run, self.config, self.stop = run, run.train, stop
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.examples = batches.Examples(batches.read(run.examples, "train"))
        self.validation = _thin(batches.read(run.examples, "validation"))
        seed_everything(self.config.seed)
        vocabulary = tokenizer.load(run.tokenizer).get_vocab_size()
        model = networks.build(run.network, vocabulary, run.markup.max_tokens)
        self.model: PreTrainedModel = model.to(self.device)  # type: ignore[arg-type]
        self.optimizer = Optimizer(self.model, self.config)
        self.precision = self.choose_precision()
        self.journal = Journal(run.folder)
        self.state = State()
        self.sums = torch.zeros(3, device=self.device)  # nats, correct, reply tokens of this epoch
        self.best: dict[str, Tensor] = {}
        self.score: metrics.Score | None = None
        self.resume()
        self.order = self.shuffle()
        planned = math.ceil(self.config.max_epochs * len(self.order))
        self.steps = min(self.config.max_steps or planned, planned)
        self.saved_s = time.monotonic()

    def fit(self) -> str:
        """Train to the end, or until told to stop; says which limit ended it."""
        since_s, window = time.monotonic(), Window()
        while True:
            self.state.elapsed_s += time.monotonic() - since_s
            since_s = time.monotonic()
            last = self.progress >= 1
            if last or self.is_look_due():
                self.validate()
            if last or self.stop.is_set() or since_s - self.saved_s > self.config.checkpoint_seconds:
                self.save()
            if last or self.stop.is_set():
                return self.ended_by()
            rate = rate_at(self.state.step, self.progress, self.config)
            rows = self.order[self.state.place]
            window.add(self.learn(rows, rate), int(self.examples.lengths[rows].sum()))
            self.advance(rows)
            if self.state.step % self.config.log_every == 0:
                self.tell(window.read(), rate)

    def learn(self, rows: Any, rate: float) -> Tensor:
        """One step: (nats, correct, reply tokens, gradient norm), still on the device."""
        picked = [self.examples.row(i) for i in rows]
        batch = batches.collate(picked, has_encoder=networks.is_encoder_decoder(self.model))
        with self.autocast():
            logits_NV, targets_N = networks.reply_logits(self.model, batch.to(self.device))
        logits_NV = logits_NV.float()
        nats = F.cross_entropy(logits_NV, targets_N, reduction="sum")
        # A batch without a reply token has no loss, and no gradient that is not a number.
        (nats / max(1, len(targets_N))).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.optimizer.step(rate)
        correct = (logits_NV.detach().argmax(-1) == targets_N).sum()
        told = torch.stack([nats.detach(), correct, torch.tensor(len(targets_N), device=self.device), norm])
        self.sums += told[:3]
        return told

    def advance(self, rows: Any) -> None:
        self.state.step += 1
        self.state.place += 1
        self.state.tokens += int(self.examples.lengths[rows].sum())
        if self.state.place == len(self.order):
            self.end_epoch(self.state.epoch + 1)
            self.state.epoch += 1
            self.state.place = 0
            self.order = self.shuffle()

    def end_epoch(self, epoch: float) -> None:
        """The epoch's line: sums over its tokens / its tokens, never a mean of means."""
        score = self.validate()
        nats, correct, tokens = self.sums.tolist()
        self.sums.zero_()
        self.journal.write_epoch(
            epoch=epoch,
            step=self.state.step,
            train_loss=nats / tokens,
            train_accuracy=correct / tokens,
            validation_loss=score.nats / score.tokens,
            validation_accuracy=score.accuracy,
            validation_bpb=score.bpb,
            seconds=self.state.elapsed_s,
        )

    def validate(self) -> metrics.Score:
        """Score the validation split, once a step; the best weights so far are kept."""
        if self.score is not None and self.state.validated_step == self.state.step:
            return self.score
        self.score = score = metrics.score(self.model, self.validation)
        self.state.validated_step = self.state.step
        self.state.looks = int(self.progress * self.config.validations)
        self.journal.write(
            "validation",
            step=self.state.step,
            loss=score.nats / score.tokens,
            accuracy=score.accuracy,
            bpb=score.bpb,
        )
        if score.bpb < self.state.best_bpb or not self.best:
            self.state.best_bpb, self.state.best_step = score.bpb, self.state.step
            self.best = {name: value.detach().clone() for name, value in self.weights().items()}
        return score

    def is_look_due(self) -> bool:
        return self.state.step > 0 and int(self.progress * self.config.validations) > self.state.looks

    def tell(self, window: dict[str, float], rate: float) -> None:
        progress = self.progress
        left_s = self.state.elapsed_s * (1 - progress) / max(progress, 1e-6)
        self.journal.write(
            "step",
            step=self.state.step,
            epoch=self.state.epoch + self.state.place / len(self.order),
            progress=progress,
            learning_rate=rate,
            seconds_left=left_s,
            **window,
        )

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by minutes, whichever ends it first."""
        by_time = self.state.elapsed_s / (60 * self.config.max_minutes) if self.config.max_minutes else 0.0
        return min(1.0, max(self.state.step / self.steps, by_time))

    def ended_by(self) -> str:
        if self.progress < 1:
            return "stopped"
        if self.state.step < self.steps:
            return "max_minutes"
        return "max_steps" if self.steps == self.config.max_steps else "max_epochs"

    def shuffle(self) -> list[Any]:
        return batches.epoch_batches(
            self.examples.lengths, self.config.batch_tokens, seed=self.config.seed, epoch=self.state.epoch
        )

    def weights(self) -> dict[str, Tensor]:
        """By name, a tied matrix once."""
        return dict(self.model.named_parameters())

    def save(self) -> None:
        self.state.epoch_sums = self.sums.tolist()
        self.state.journal = self.journal.sizes()
        tensors = {
            "model": self.weights(),
            "optimizer": self.optimizer.tensors(),
            "random": checkpoint.random_state(),
            "best": self.best,
        }
        checkpoint.save(self.run.folder / "checkpoints", self.state.step, tensors, asdict(self.state))
        self.saved_s = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, or begin."""
        found = checkpoint.load_newest(self.run.folder / "checkpoints")
        if found is None:
            self.journal.begin(None)
            return
        tensors, state = found
        self.state = State(**state)
        self.set_weights(tensors["model"])
        self.optimizer.load_tensors(tensors["optimizer"])
        self.best = {name: value.to(self.device) for name, value in tensors["best"].items()}
        self.sums += torch.tensor(self.state.epoch_sums, device=self.device)
        checkpoint.set_random_state(tensors["random"])
        self.journal.begin(self.state.journal)
        log.info("goes on at step %d", self.state.step)

    @torch.no_grad()
    def set_weights(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.weights().items():
            parameter.copy_(tensors[name])

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def choose_precision(self) -> str:
        """bf16 where it is faster here; what a run began with it keeps."""
        path = self.run.folder / "precision.json"
        if path.exists():
            return str(json.loads(path.read_text())["precision"])
        seconds = {} if self.device.type == "cuda" else self.probe()
        chosen = min(seconds, key=lambda name: seconds[name]) if seconds else "bf16"
        path.write_text(json.dumps({"precision": chosen, "seconds": seconds}))
        return chosen

    def probe(self) -> dict[str, float]:
        """Seconds of the best of three forward and backward passes in each precision."""
        order = batches.epoch_batches(self.examples.lengths, self.config.batch_tokens, seed=0, epoch=0)
        picked = [self.examples.row(i) for i in order[0]]
        batch = batches.collate(picked, has_encoder=networks.is_encoder_decoder(self.model))
        seconds = {}
        for name in ("fp32", "bf16"):
            self.precision = name
            took = []
            for _ in range(4):  # the first one warms up
                start_s = time.perf_counter()
                with self.autocast():
                    logits, targets = networks.reply_logits(self.model, batch)
                F.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
                took.append(time.perf_counter() - start_s)
            seconds[name] = min(took[1:])
        self.model.zero_grad(set_to_none=True)
        seed_everything(self.config.seed)
        return seconds

    def publish(self, ended_by: str) -> None:
        """model/ with the best weights, then summary.json."""
        self.set_weights(self.best)
        run, final = self.run, self.run.folder / "model"
        partial = run.folder / f".tmp-model-{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(run.tokenizer, partial, ignore=shutil.ignore_patterns("manifest.json"))
        networks.save(self.model, partial)
        made = {
            "family": run.network.family,
            "normalisation": run.normalisation,
            "markup": run.markup.model_dump(),
        }
        (partial / "repartee.json").write_text(json.dumps(made, indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        summary = {
            "parameters": self.model.num_parameters(),
            "steps": self.state.step,
            "epochs": self.state.epoch + self.state.place / len(self.order),
            "seconds": self.state.elapsed_s,
            "train_tokens": self.state.tokens,
            "best_validation_bpb": self.state.best_bpb,
            "best_step": self.state.best_step,
            "stopped_by": ended_by,
            "precision": self.precision,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }
        (run.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


class Window:
    """Figures over the steps since the last line; reading them waits for the device, once."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.told: list[Tensor] = []
        self.tokens = 0
        self.since_s = time.monotonic()

    def add(self, told: Tensor, tokens: int) -> None:
        self.told.append(told)
        self.tokens += tokens

    def read(self) -> dict[str, float]:
        sums = torch.stack(self.told)
        nats, correct, tokens = sums[:, :3].sum(0).tolist()
        seconds = time.monotonic() - self.since_s
        figures = {
            "loss": nats / max(1, tokens),
            "accuracy": correct / max(1, tokens),
            "grad_norm": float(sums[:, 3].mean()),
            "tokens_per_second": self.tokens / seconds,
        }
        self.begin()
        return figures


def _thin(table: Any) -> Any:
    """Rows at even distances, about VALIDATION_TOKENS in all."""
    lengths = batches.Examples(table).lengths
    step = max(1, round(int(lengths.sum()) / VALIDATION_TOKENS))
    return table.take(np.arange(0, table.num_rows, step))


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train(folder: Path, stop: threading.Event) -> int:
    """Train in the run folder; the exit status."""
    run = Run.read(folder)
    lock = FileLock(folder / "lock", timeout=LOCK_SECONDS)
    try:
        with lock:
            trainer = Trainer(run, stop)
            ended_by = trainer.fit()
            if ended_by == "stopped":
                return 128 + signal.SIGTERM
            if trainer.state.place:
                trainer.end_epoch(round(trainer.state.epoch + trainer.state.place / len(trainer.order), 2))
            trainer.publish(ended_by)
            return 0
    except Timeout:
        raise InputError(f"another training is at work in {folder}; wait for it, or end it") from None


def _stop_with_parent(stop: threading.Event) -> None:
    # Unbuffered: a thread that waits inside a buffer makes the interpreter abort as it ends.
    while os.read(0, 1024):  # nothing is left to read when the last holder of the other end is gone
        pass
    stop.set()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.training", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if asked.until_stdin_closes:
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    try:
        return train(asked.run_dir, stop)
    except (InputError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
