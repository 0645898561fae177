"""Training: `python -m models.training RUN_DIR` makes a model of examples; killed anywhere, it goes on.

It knows neither Prefect nor MLflow: config.json in; metrics.jsonl, train.log, checkpoints, then
model/ and summary.json out. It ends with 0 done, 2 the user can mend it, 3 it failed,
143 or 130 told to stop: a checkpoint is written and the same command goes on from there.
"""

import os

if __name__ == "__main__":
    # Read when torch starts its threads: waiting ones then leave the core to others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import logging
import math
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from models import batches, checkpoint, metrics, networks, progress, starts
from models.cross_entropy import weighted_nats
from models.errors import InputError
from models.files import sync
from models.journal import Journal
from models.optimizers import Optimizer, rate_at

log = logging.getLogger(__name__)

LOCK_SECONDS = 30  # a trainer that was told to end needs some to write its checkpoint


class Trainer:
    """One training: the loop, and all that it changes."""

    def __init__(self, run: progress.Run, stop: threading.Event) -> None:
        self.run, self.config, self.stop = run, run.train, stop
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.examples = batches.Examples(batches.read(run.examples, "train"))
        progress.seed_everything(self.config.seed)
        self.model, self.begun = starts.begin(run)
        self.has_encoder = networks.is_encoder_decoder(self.model)
        self.sides = self.examples.sides(has_encoder=self.has_encoder)
        progress.check(self.examples, self.sides, networks.head(self.model).out_features, run)
        self.model.to(self.device)  # type: ignore[arg-type]
        if self.device.type == "cpu":
            # For short sequences several times faster backward in bf16 than torch's fused kernel.
            self.model.set_attn_implementation("eager")
        self.optimizer = Optimizer(self.model, self.config)
        # On small matrices two threads of OpenMP gain nothing over one; two halves of a batch do.
        # Dropout draws from one sequence of chances, which two threads would share out at random.
        both = self.device.type == "cpu" and cores() > 1 and not run.network.dropout
        self.workers = 2 if both else 1
        self.together = ThreadPoolExecutor(self.workers).map if both else map
        self.key = run.key()
        self.journal = Journal(run.folder)
        self.state = progress.State()
        self.best: dict[str, Tensor] = {}
        self.precision = progress.choose_precision(run.folder, self.device, self.probe)
        progress.seed_everything(self.config.seed)  # whether or not the probe has just used up chances
        self.resume()
        self.sums = progress.Sums(self.device, self.state.epoch_sums)
        self.window = progress.Sums(self.device, self.state.window_sums)
        self.speed = progress.Speed()
        self.order = self.shuffle()
        planned = math.ceil(self.config.max_epochs * len(self.order))
        self.steps = min(self.config.max_steps or planned, planned)
        affordable = progress.affordable_tokens(run.folder, self.config)
        self.validation = progress.thin(
            batches.read(run.examples, "validation"),
            self.steps,
            len(self.examples.ids),
            affordable,
            self.config,
        )

    def fit(self) -> str | None:
        """Train until a limit is reached, and say which; none: told to stop before."""
        self.since_s = self.saved_s = time.monotonic()
        while True:
            self.tick()
            done = progress.share_done(self.state, self.steps, self.config)
            last, stopping = done >= 1, self.stop.is_set()
            with self.speed.paused():
                if last or self.state.place == len(self.order):
                    self.end_epoch()
                if last or progress.is_look_due(self.state, done, self.config):
                    self.validate(done)
                if last or stopping or self.since_s - self.saved_s > self.config.checkpoint_seconds:
                    self.save()
            if last:
                return progress.ended_by(self.state, self.steps, self.config)
            if stopping:
                return None
            rate = rate_at(self.state.step, done, self.config)
            self.learn(self.order[self.state.place], rate)
            if self.state.step % self.config.log_every == 0:
                self.tell(rate)

    def tick(self) -> None:
        now_s = time.monotonic()
        self.state.elapsed_s += now_s - self.since_s
        self.since_s = now_s

    def learn(self, rows: NDArray[np.int64], rate: float) -> None:
        """One step; its figures stay on the device."""
        parts = [self.batch(rows[i :: self.workers]) for i in range(min(self.workers, len(rows)))]
        tokens = sum(int((part.targets_BT >= 0).sum()) for part in parts)
        told = torch.stack(list(self.together(lambda part: self.differentiate(part, tokens), parts))).sum(0)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.optimizer.step(rate, self.together)
        self.sums.add(torch.cat([told, norm[None]]))
        self.window.add(torch.cat([told, norm[None]]))
        read = int(self.sides[rows].sum())
        self.speed.tokens += read
        self.state.tokens += read
        self.state.step += 1
        self.state.place += 1

    def differentiate(self, part: batches.Batch, tokens: int) -> Tensor:
        """Add the gradient of a part of a step's batch, which has `tokens` reply tokens in all.

        Returns (nats, correct, reply tokens) of the part. Of two parts, in two threads, the sum is
        the same in either order, so the weights are, too.
        """
        part = part.to(self.device)
        total, nats_N, hits_N, is_reply_N = self.forward(part)
        # A batch without a reply token has loss 0, and no gradient that is not a number.
        (total / max(1, tokens)).backward()  # type: ignore[no-untyped-call]
        return torch.stack([nats_N[is_reply_N].sum(), hits_N[is_reply_N].sum(), is_reply_N.sum()])

    def forward(self, part: batches.Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(weighted nats, nats_N, is_likeliest_N, is_reply_N) of the positions that teach something.

        A turn that is no reply still shows how people talk: it has the weight `context_loss`.
        """
        targets_BT = part.targets_BT
        if self.config.context_loss and not self.has_encoder:
            targets_BT = networks.next_ids(part)
        teaches_BT = targets_BT >= 0
        is_reply_N = part.targets_BT[teaches_BT] >= 0
        with self.autocast():
            hidden_ND = networks.hidden(self.model, part)[teaches_BT]
        total, nats_N, hits_N = weighted_nats(
            hidden_ND.to(self.dtype),
            networks.head(self.model).weight,
            targets_BT[teaches_BT],
            torch.where(is_reply_N, 1.0, self.config.context_loss),
        )
        return total, nats_N, hits_N, is_reply_N

    def batch(self, rows: NDArray[np.int64]) -> batches.Batch:
        return batches.collate([self.examples.row(i) for i in rows], has_encoder=self.has_encoder)

    def tell(self, rate: float) -> None:
        """The line of the last steps: the one place where the loop waits for the device."""
        sums = self.window.read()
        self.window.clear()
        self.require_finite(sums[0])
        self.tick()
        line = progress.step_line(
            self.state,
            sums,
            done=progress.share_done(self.state, self.steps, self.config),
            batches=len(self.order),
            every=self.config.log_every,
            rate=rate,
            speed=self.speed.read(),
        )
        self.journal.write("step", **line)

    def end_epoch(self) -> None:
        """The epoch's line, or that of the part it got to, and a new order after a whole one."""
        whole = self.state.place == len(self.order)
        if self.state.told_step != self.state.step:
            self.validate(progress.share_done(self.state, self.steps, self.config))
            nats, correct, tokens, _ = self.sums.read()
            self.journal.write_epoch(
                epoch=self.state.epoch + (1 if whole else round(self.state.place / len(self.order), 2)),
                step=self.state.step,
                # Sums over the epoch's tokens / its tokens, never a mean of means.
                train_loss=nats / max(1, tokens),
                train_accuracy=correct / max(1, tokens),
                **{f"validation_{name}": value for name, value in self.state.validation.items()},
                seconds=self.state.elapsed_s,
            )
            self.state.told_step = self.state.step
        if whole:
            self.sums.clear()
            self.state.epoch += 1
            self.state.place = 0
            self.order = self.shuffle()

    def validate(self, done: float) -> None:
        """Score the validation split, once a step; the best weights so far are kept."""
        self.state.looks = int(done * self.config.validations)
        if self.state.validated_step == self.state.step:
            return
        began_s = time.monotonic()
        with self.autocast():
            score = metrics.score(self.model, self.validation)
        self.require_finite(score.nats)
        self.state.validation_s += time.monotonic() - began_s
        figures = {"loss": score.nats / score.tokens, "accuracy": score.accuracy, "bpb": score.bpb}
        self.journal.write("validation", step=self.state.step, **figures)
        self.state.validation = figures
        self.state.validated_step = self.state.step
        if score.bpb < self.state.best_bpb:
            self.state.best_bpb, self.state.best_step = score.bpb, self.state.step
            self.best = {name: value.detach().clone() for name, value in self.weights().items()}

    def require_finite(self, nats: float) -> None:
        if not math.isfinite(nats):
            raise InputError(
                f"the loss is no number any more at step {self.state.step}: lower "
                f"train.learning_rate (now {self.config.learning_rate:g}) and train again"
            )

    def shuffle(self) -> list[NDArray[np.int64]]:
        config = self.config
        return batches.epoch_batches(
            self.sides, config.batch_tokens, seed=config.seed, epoch=self.state.epoch
        )

    def weights(self) -> dict[str, Tensor]:
        """By name, a tied matrix once."""
        return dict(self.model.named_parameters())

    def save(self) -> None:
        self.state.epoch_sums, self.state.window_sums = self.sums.read(), self.window.read()
        self.require_finite(self.state.epoch_sums[0])
        for path in self.journal.paths.values():
            sync(path)  # the checkpoint counts on what it has seen of them
        self.state.journal = self.journal.sizes()
        tensors = {
            "model": self.weights(),
            "optimizer": self.optimizer.tensors(),
            "random": checkpoint.random_state(),
            "best": self.best,
        }
        folder = self.run.folder / "checkpoints"
        checkpoint.save(folder, self.state.step, tensors, asdict(self.state), key=self.key)
        self.saved_s = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest whole checkpoint of this training, or begin."""
        found = checkpoint.load_newest(self.run.folder / "checkpoints", key=self.key)
        if found is None:
            self.journal.begin(None)
            return
        self.state = progress.State(**found.state)
        self.set_weights(found.tensors["model"])
        self.optimizer.load_tensors(found.tensors["optimizer"])
        self.best = {name: t.to(self.device) for name, t in found.tensors["best"].items()}
        checkpoint.set_random_state(found.tensors["random"])
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

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits' product."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def probe(self, precision: str) -> float:
        """Seconds of a forward and backward pass."""
        self.precision = precision
        batch = self.batch(batches.bucket(self.sides, progress.PROBE_TOKENS)[-1])

        def both_ways() -> None:
            self.forward(batch)[0].backward()  # type: ignore[no-untyped-call]
            self.model.zero_grad(set_to_none=True)

        return progress.fastest(both_ways)

    def publish(self, limit: str) -> None:
        """model/ with the best weights, then summary.json."""
        self.set_weights(self.best)
        self.run.publish(self.model)
        summary = {
            "parameters": self.model.num_parameters(),
            "steps": self.state.step,
            "epochs": self.state.epoch + self.state.place / len(self.order),
            "seconds": self.state.elapsed_s,
            "train_tokens": self.state.tokens,
            "best_validation_bpb": self.state.best_bpb,
            "best_step": self.state.best_step,
            "stopped_by": limit,
            "precision": self.precision,
            "device": str(self.device),
            "workers": self.workers,
            "threads": torch.get_num_threads(),
            **{f"start_tokens_{name}": count for name, count in self.begun.items()},
        }
        checkpoint.put_json(self.run.folder / "summary.json", summary)


def cores() -> int:
    """How many this process may use; OMP_NUM_THREADS, where it is set, allows fewer."""
    return min(len(os.sched_getaffinity(0)), int(os.environ.get("OMP_NUM_THREADS") or sys.maxsize))


def train(folder: Path, stop: threading.Event) -> bool:
    """Train in the run folder; whether it is done, or was told to stop before.

    Raises:
        InputError: the config or the examples cannot be used, or another trainer is at work here.
    """
    run = progress.Run.read(folder)
    try:
        with FileLock(folder / "lock", timeout=LOCK_SECONDS):
            trainer = Trainer(run, stop)
            limit = trainer.fit()
            if limit is not None:
                trainer.publish(limit)
            return limit is not None
    except Timeout:
        raise InputError(f"another training is at work in {folder}; wait for it, or end it") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.training", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started this"
    )
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(1 if cores() == 2 else max(1, cores() // 2))
    stop = threading.Event()
    signals = progress.stop_on_signals(stop)
    if asked.until_stdin_closes:
        threading.Thread(target=progress.stop_with_parent, args=(stop,), daemon=True).start()
    try:
        return 0 if train(asked.run_dir, stop) else 128 + (signals or [signal.SIGTERM])[0]
    except InputError as error:
        log.error("training: %s", error)
        return 2
    except OSError as error:  # a full disk, a folder that is gone: what it did is no help
        log.error("training: %s; earlier checkpoints are kept, the same command goes on", error)
        return 3
    except Exception as error:
        log.error("%s", traceback.format_exc())
        log.error("training: %s: %s", type(error).__name__, " ".join(str(error).split()))
        return 3


if __name__ == "__main__":
    sys.exit(main())
