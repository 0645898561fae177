"""Trains the model of a Repartee run folder with transformers.Trainer, the baseline of the comparisons.

python -m benchmarks.hf_trainer RUN_DIR trainer|grouped|gpt2 MINUTES [--rate R] [--precision bf16|fp32]
    [--attention sdpa|eager] [--rows N] [--validations N] [--device cpu|cuda|mps]

Like Repartee's trainer, this program writes model/ and summary.json, and scores the model on the validation
rows that Repartee's trainer uses. The time spent on validation does not count towards MINUTES.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.trainer_summary import TrainerSummary
from models.data import batches
from models.evaluation import metrics
from models.network import networks
from models.text import tokenizer
from models.training import validation
from models.training.launch import SUMMARY
from models.training.run_folder import Run
from models.training.setup import seed_everything

IGNORED = -100  # transformers excludes positions with this label from the loss
RATE = 1e-3  # a usual learning rate for this size of network; benchmarks/quality.py searches for the best one
WARMUP_SHARE = 0.05  # of the training time, not of the steps, because a slow machine makes few steps


class Rows(Dataset[dict[str, list[int]]]):
    def __init__(self, examples: batches.Examples, *, context: bool) -> None:
        self.examples, self.context = examples, context

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict[str, list[int]]:
        ids, flags = self.examples.row(i)
        labels = ids if self.context else np.where(flags, ids, IGNORED)
        return {"input_ids": ids.tolist(), "labels": labels.tolist()}


class Clock(TrainerCallback):
    """Counts tokens, validates at regular intervals, and ends training at the time limit."""

    def __init__(self, seconds: float, validations: int, bpb: Callable[[], float]) -> None:
        self.seconds, self.validations, self.bpb = seconds, validations, bpb
        self.tokens, self.marks, self.curve = 0, [(0.0, 0)], list[tuple[float, float]]()
        self.began_s = 0.0

    def share(self) -> float:
        """The share of the time limit that has elapsed. It determines the learning rate, as in Repartee's
        trainer."""
        return min(1.0, self.marks[-1][0] / self.seconds)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began_s = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now_s = time.monotonic()
        self.marks.append((now_s - self.began_s, self.tokens))
        if int(self.share() * self.validations) > len(self.curve):
            self.curve.append((self.marks[-1][0] / 60, self.bpb()))
            self.began_s += time.monotonic() - now_s
        control.should_training_stop = self.share() == 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hf_trainer")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("name", choices=("trainer", "grouped", "gpt2"))
    parser.add_argument("minutes", type=float)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--rows", type=int, help="rows per batch (default: as many tokens as Repartee uses)")
    parser.add_argument("--validations", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    options = parser.parse_args()
    run = Run.read(options.run_dir)
    seed_everything(run.train.seed)
    if options.name == "gpt2":
        run = replace(run, network=run.network.model_copy(update={"family": "gpt2"}))
    examples = batches.Examples(batches.read_examples(run.examples, "train"))
    vocabulary = tokenizer.load(run.tokenizer).get_vocab_size()
    model = networks.build(run.network, vocabulary, run.positions())
    model.set_attn_implementation(options.attention)
    validation = looked_at(run, examples)

    def bpb() -> float:
        with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16"):
            return metrics.score(model, validation).bpb

    clock = Clock(60 * options.minutes, options.validations, bpb)
    fit(run, model, examples, clock, options)
    run.publish(model)
    since_s, tokens = clock.marks[len(clock.marks) // 10]
    summary = TrainerSummary(
        tokens_per_second=(clock.tokens - tokens) / (clock.marks[-1][0] - since_s),
        steps=len(clock.marks) - 1,
        train_tokens=clock.tokens,
        parameters=model.num_parameters(),
        curve=clock.curve,
    )
    summary.write(run.folder / SUMMARY)


def looked_at(run: Run, examples: batches.Examples) -> pa.Table:
    """The validation rows that Repartee's trainer would score if training had no time limit."""
    epoch = batches.epoch_batches(examples.lengths, run.train.batch_tokens, seed=run.train.seed, epoch=0)
    steps = math.ceil(run.train.max_epochs * len(epoch))
    table = batches.read_examples(run.examples, "validation")
    return validation.subsample(table, steps, len(examples.ids), math.inf, run.train)


def fit(run: Run, model: Any, examples: batches.Examples, clock: Clock, options: argparse.Namespace) -> None:
    """Train with Trainer's defaults for all settings that are not given here. By default, for example, norms
    have no weight decay."""
    pad = DataCollatorForSeq2Seq(
        PreTrainedTokenizerFast.from_pretrained(run.tokenizer), label_pad_token_id=IGNORED
    )

    def collate(rows: list[dict[str, list[int]]]) -> Any:
        clock.tokens += sum(len(row["input_ids"]) for row in rows)
        return pad(rows)

    alike = max(1, round(run.train.batch_tokens / float(examples.lengths.mean())))
    arguments = TrainingArguments(
        output_dir=str(run.folder / "hf"),
        per_device_train_batch_size=options.rows or alike,
        max_steps=1_000_000,  # the clock ends training earlier
        learning_rate=options.rate,
        adam_beta2=0.95,
        weight_decay=0.1,
        bf16=options.precision == "bf16",
        use_cpu=options.device == "cpu",
        train_sampling_strategy="group_by_length" if options.name == "grouped" else "random",
        save_strategy="no",
        logging_steps=50,
        report_to=[],
        seed=run.train.seed,
        disable_tqdm=True,
    )
    rows = Rows(examples, context=bool(run.train.context_loss))
    trainer: Any = Trainer(model, arguments, collate, train_dataset=rows, callbacks=[clock])
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        trainer.create_optimizer(), lambda _: rate_at(clock.share())
    )
    trainer.train()


def rate_at(share: float) -> float:
    """The learning rate as a share of its peak: linear warm-up, then linear decay to 0 at the end."""
    return min(1.0, (share + 1e-3) / WARMUP_SHARE) * (1 - share)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
