"""transformers.Trainer on a run folder of ours: what benchmarks/training.py measures against.

python -m benchmarks.hf_trainer RUN_DIR trainer|grouped|gpt2 MINUTES
"""

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from models import batches, networks, progress, tokenizer
from models.checkpoint import put_json
from models.run import Run

IGNORED = -100  # what transformers leaves out of a loss
RATE = 1e-3  # usual at this size, and not yet searched for as ours was


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
    """Counts, and ends the training on time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.tokens, self.marks = seconds, 0, [(0.0, 0)]
        self.began_s = 0.0

    def share(self) -> float:
        """Of the time, for a rate that ends at 0 as ours does."""
        return min(1.0, self.marks[-1][0] / self.seconds)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began_s = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        elapsed_s = time.monotonic() - self.began_s
        self.marks.append((elapsed_s, self.tokens))
        control.should_training_stop = elapsed_s > self.seconds


def main(folder: str, name: str, minutes: str) -> None:
    run = Run.read(Path(folder))
    progress.seed_everything(run.train.seed)
    if name == "gpt2":
        run = replace(run, network=run.network.model_copy(update={"family": "gpt2"}))
    examples = batches.Examples(batches.read(run.examples, "train"))
    vocabulary = tokenizer.load(run.tokenizer).get_vocab_size()
    model = networks.build(run.network, vocabulary, run.positions())
    clock = Clock(60 * float(minutes))
    tokens = PreTrainedTokenizerFast.from_pretrained(run.tokenizer)
    pad = DataCollatorForSeq2Seq(tokens, label_pad_token_id=IGNORED)

    def collate(rows: list[dict[str, list[int]]]) -> Any:
        clock.tokens += sum(len(row["input_ids"]) for row in rows)
        return pad(rows)

    a_step = max(1, round(run.train.batch_tokens / float(examples.lengths.mean())))
    arguments = TrainingArguments(
        output_dir=str(run.folder / "hf"),
        per_device_train_batch_size=a_step,
        max_steps=1_000_000,  # the clock ends it before
        bf16=True,
        use_cpu=True,
        train_sampling_strategy="group_by_length" if name == "grouped" else "random",
        save_strategy="no",
        logging_steps=50,
        report_to=[],
        seed=run.train.seed,
        disable_tqdm=True,
    )
    rows = Rows(examples, context=bool(run.train.context_loss))
    adamw = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        adamw, lambda step: min(1.0, (step + 1) / max(1, run.train.warmup_steps)) * (1 - clock.share())
    )
    Trainer(
        model, arguments, collate, train_dataset=rows, callbacks=[clock], optimizers=(adamw, schedule)
    ).train()
    run.publish(model)
    rates = [
        (tokens - before_tokens) / (now_s - before_s)
        for (before_s, before_tokens), (now_s, tokens) in zip(clock.marks, clock.marks[1:], strict=False)
    ]
    rate = statistics.median(rates[len(rates) // 10 :])
    put_json(run.folder / "summary.json", {"tokens_per_second": rate, "steps": len(rates)})


if __name__ == "__main__":
    torch.set_num_threads(2)
    main(*sys.argv[1:])
