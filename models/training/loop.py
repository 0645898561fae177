"""Training: the loop that makes a network of examples, and goes on from its last checkpoint."""

import logging
import math
import os
import sys
import threading
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import devices
from models.data import batches
from models.errors import InputError
from models.evaluation import collapse, metrics
from models.files import sync
from models.metrics_log import MetricsLog
from models.network import networks
from models.text import tokenizer
from models.training import checkpoint, initial_weights, preflight, schedule, validation
from models.training.distributed import init_process_group
from models.training.fast_path import choice
from models.training.precision import PROBE_TOKENS, choose_precision
from models.training.run_folder import Run
from models.training.seeding import seed_everything, step_seed
from models.training.state import MetricSums, Throughput, TrainingState, step_line
from models.training.step import GradientStep

log = logging.getLogger(__name__)

FAULTS = 3  # bad steps in a row: what is bad is no longer the batch
SPIKE = 2.0  # times the nats of a guess among all tokens: a loss that no batch explains
FALLBACK = 0.5  # of the rate, for the training that is tried again


class Diverged(Exception):
    """The weights have become useless; the message names the batch at which it showed."""


class Training:
    """One training: the loop, and all that it changes."""

    def __init__(self, run: Run, stop: threading.Event, *, rate_scale: float = 1.0) -> None:
        self.run, self.config, self.stop = run, run.train, stop
        self.group = init_process_group()
        self.device = devices.best()
        self.table = batches.read_examples(run.examples, "train")
        self.examples = batches.Examples(self.table)
        seed_everything(self.config.seed)
        self.model, self.start_token_counts = initial_weights.load_initial_weights(run)
        vocabulary = networks.head(self.model).out_features
        self.guess_nats = math.log(vocabulary)
        self.sides = self.examples.sides(has_encoder=networks.is_encoder_decoder(self.model))
        run.check(self.examples, self.sides, vocabulary)
        path = choice.choose_path(run, self.model, self.device, self.group, stop)
        self.model.to(self.device)  # type: ignore[arg-type]
        if self.device.type == "cpu":
            # For short sequences several times faster backward in bf16 than torch's fused kernel.
            self.model.set_attn_implementation("eager")
        # On small matrices two threads of OpenMP gain nothing over one; two halves of a batch do.
        # Dropout draws from one sequence of chances, which two threads would share out at random.
        is_parallel = self.device.type == "cpu" and cores() > 1 and not run.network.dropout
        workers = 2 if is_parallel else 1
        self.step = GradientStep(
            self.model, self.examples, self.config, workers=workers, group=self.group, path=path
        )
        self.key = run.key()
        self.metrics_log = MetricsLog(run.folder, writes=self.group.is_main)
        self.state = TrainingState()
        self.best: dict[str, Tensor] = {}
        long_rows = batches.bucket(self.sides, PROBE_TOKENS)[-1]
        with self.group.main_process_first():
            self.step.precision = choose_precision(
                run.folder, self.device, lambda precision: self.step.pass_seconds(long_rows, precision)
            )
        self.resume()
        self.state.rate_scale = min(rate_scale, self.state.rate_scale)
        self.sums = MetricSums(self.state.epoch_sums)
        self.window = MetricSums(self.state.window_sums)
        self.throughput = Throughput()
        self.order = self.shuffle(self.state.epoch)
        # Packed, an epoch may have a batch more or less than another: the plan is of the first.
        planned = math.ceil(self.config.max_epochs * len(self.shuffle(0)))
        self.num_steps = min(self.config.max_steps or planned, planned)
        affordable = validation.affordable_tokens(run.folder, self.config)
        self.validation = validation.subsample(
            batches.read_examples(run.examples, "validation"),
            self.num_steps,
            len(self.examples.ids),
            affordable,
            self.config,
        )

    def fit(self) -> str | None:
        """Train until a limit is reached, and say which; none: told to stop before.

        Raises:
            Diverged: it leads nowhere from here.
        """
        self.since_s = self.saved_s = time.monotonic()
        while True:
            stopping, is_save_due = self.tick()
            progress = schedule.progress(self.state, self.num_steps, self.config)
            with self.throughput.paused():
                if self.state.batch_index == len(self.order):
                    self.end_epoch()
                if schedule.is_validation_due(self.state, progress, self.config):
                    self.validate(progress)
                limit = schedule.limit_reached(self.state, progress, self.num_steps, self.config)
                if limit:
                    self.end_epoch()
                    self.sample_replies()
                if limit or stopping or is_save_due:
                    self.save()
            if limit or stopping:
                return limit
            rate = self.state.rate_scale * schedule.learning_rate_at(self.state.step, progress, self.config)
            self.train_step(self.order[self.state.batch_index], rate)
            if self.state.step % self.config.log_every == 0:
                self.log_step(rate)

    def tick(self) -> tuple[bool, bool]:
        """Whether to stop, as any rank was told to, and to save; time is what rank 0's clock says."""
        self.update_elapsed()
        is_save_due = self.since_s - self.saved_s > self.config.checkpoint_seconds
        answers = self.group.all_gather(self.state.elapsed_s, self.stop.is_set(), is_save_due)
        self.state.elapsed_s = answers[0][0]
        return any(stops for _, stops, _ in answers), bool(answers[0][2])

    def update_elapsed(self) -> None:
        now_s = time.monotonic()
        self.state.elapsed_s += now_s - self.since_s
        self.since_s = now_s

    def train_step(self, rows: NDArray[np.int64], rate: float) -> None:
        """One step: its figures are counted and the weights move, or a bad one is passed over."""
        step_sums = self.step.gradient(
            rows, seed=step_seed(self.config.seed, self.state.step, self.group.rank)
        )
        if fault := self.find_fault(step_sums):
            self.skip_step(rows, fault)
        else:
            self.step.update(rate)
            self.sums.add(step_sums)
            self.window.add(step_sums)
            self.state.faults_in_a_row = 0
        num_tokens = int(self.sides[rows].sum())
        self.throughput.tokens += num_tokens
        self.state.tokens += num_tokens
        self.state.step += 1
        self.state.batch_index += 1

    def find_fault(self, step_sums: Tensor) -> str | None:
        """What is wrong with a step's (nats, correct, tokens, norm), if anything.

        Each step waits for the device here: a bad gradient must not move the weights.
        """
        nats, _, tokens, norm = step_sums.tolist()
        loss = nats / max(1, tokens)
        if not math.isfinite(nats) or not math.isfinite(norm):
            return f"loss {loss:g}, gradient norm {norm:g}"
        if loss > SPIKE * self.guess_nats:
            return f"loss {loss:.2f}, where a guess has {self.guess_nats:.2f}"
        return None

    def skip_step(self, rows: NDArray[np.int64], fault: str) -> None:
        """Forget the step's gradient; after a few in a row it is not the batches that are bad.

        Raises:
            Diverged: the weights are.
        """
        self.step.drop()
        self.state.skipped += 1
        self.state.faults_in_a_row += 1
        named = batches.name_rows(self.table, rows)
        self.metrics_log.write("skip", step=self.state.step, fault=fault, conversations=named)
        log.warning("step %d is skipped: %s; its batch: %s", self.state.step, fault, named)
        if self.state.faults_in_a_row == FAULTS:
            first = self.state.step - FAULTS + 1
            raise Diverged(
                f"steps {first} to {self.state.step} were bad, the last with {fault}; its batch: {named}"
            )

    def log_step(self, rate: float) -> None:
        """The line of the last steps."""
        sums = self.window.read()
        self.window.clear()
        self.update_elapsed()
        line = step_line(
            self.state,
            sums,
            progress=schedule.progress(self.state, self.num_steps, self.config),
            num_batches=len(self.order),
            num_steps=self.config.log_every,
            rate=rate,
            tokens_per_second=self.throughput.read(),
        )
        self.metrics_log.write("step", **line)

    def end_epoch(self) -> None:
        """The epoch's line, or that of the part it got to, and a new order after a whole one."""
        whole = self.state.batch_index == len(self.order)
        if self.state.last_epoch_log_step != self.state.step:
            self.validate(schedule.progress(self.state, self.num_steps, self.config))
            nats, correct, tokens, _ = self.sums.read()
            self.metrics_log.write_epoch(
                epoch=round(self.state.epoch + self.state.batch_index / len(self.order), 2),
                step=self.state.step,
                # Sums over the epoch's tokens / its tokens, never a mean of means.
                train_loss=nats / max(1, tokens),
                train_accuracy=correct / max(1, tokens),
                **{f"validation_{name}": value for name, value in self.state.validation.items()},
                seconds=self.state.elapsed_s,
            )
            self.state.last_epoch_log_step = self.state.step
            if self.state.tokens - self.state.last_reply_sample_tokens >= collapse.TOKENS_BETWEEN:
                self.sample_replies()
        if whole:
            self.sums.clear()
            self.state.epoch += 1
            self.state.batch_index = 0
            self.order = self.shuffle(self.state.epoch)

    def sample_replies(self) -> None:
        """Tell how it answers, once a step."""
        if self.state.last_reply_sample_tokens == self.state.tokens:
            return
        self.state.last_reply_sample_tokens = self.state.tokens
        if not self.group.is_main:
            return
        stats = collapse.sample_replies(
            self.model, self.validation, tokenizer.load_control(self.run.tokenizer)
        )
        alarm = stats.alarm()
        self.metrics_log.write("replies", step=self.state.step, **stats.figures(), alarm=alarm)
        if alarm:
            log.warning("the replies at step %d have collapsed: %s", self.state.step, alarm)

    def validate(self, progress: float) -> None:
        """Score the validation split, once a step; the best weights so far are kept."""
        self.state.num_validations = int(progress * self.config.validations)
        if self.state.validated_step == self.state.step:
            return
        loss, accuracy, bpb, seconds = self.group.all_gather(*self.score())[0]
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss at step {self.state.step} is {loss:g}")
        self.state.validation_s += seconds
        figures = {"loss": loss, "accuracy": accuracy, "bpb": bpb}
        self.metrics_log.write("validation", step=self.state.step, **figures)
        self.state.validation = figures
        self.state.validated_step = self.state.step
        if bpb < self.state.best_bpb:
            self.state.best_bpb, self.state.best_step = bpb, self.state.step
            self.state.validations_since_best = 0
            self.best = {name: value.detach().clone() for name, value in self.weights().items()}
        else:
            self.state.validations_since_best += 1

    def score(self) -> tuple[float, float, float, float]:
        """(loss, accuracy, bits per byte, seconds that it took); rank 0's alone are of use."""
        if not self.group.is_main:
            return 0.0, 0.0, 0.0, 0.0
        began_s = time.monotonic()
        with self.step.autocast():
            score = metrics.score(self.model, self.validation)
        return score.nats / score.tokens, score.accuracy, score.bpb, time.monotonic() - began_s

    def shuffle(self, epoch: int) -> list[NDArray[np.int64]]:
        """The epoch's batches, in their order."""
        config = self.config
        if self.step.packing:
            return self.step.packing.epoch_batches(seed=config.seed, epoch=epoch)
        return batches.epoch_batches(self.sides, config.batch_tokens, seed=config.seed, epoch=epoch)

    def weights(self) -> dict[str, Tensor]:
        """Those that are trained, by name, a tied matrix once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self) -> None:
        if self.state.faults_in_a_row or not self.group.is_main:
            return  # the weights may be what is bad: the checkpoint before is the one to go back to
        self.state.epoch_sums, self.state.window_sums = self.sums.read(), self.window.read()
        for path in self.metrics_log.paths.values():
            sync(path)  # the checkpoint counts on what it has seen of them
        self.state.log_sizes, self.state.parts = self.metrics_log.sizes(), self.step.parts
        self.state.is_packed = bool(self.step.packing)
        tensors = {
            "model": self.weights(),
            "optimizer": self.step.optimizer.tensors(),
            "best": self.best,
        }
        folder = self.run.folder / "checkpoints"
        checkpoint.save(folder, self.state.step, tensors, self.state.to_json(), key=self.key)
        self.saved_s = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest whole checkpoint of this training, or begin."""
        found = checkpoint.load_newest(self.run.folder / "checkpoints", key=self.key)
        # As a number that a double holds whole.
        fingerprint = [int(self.key[:12], 16), -1 if found is None else found.state["step"]]
        if any(other != fingerprint for other in self.group.all_gather(*fingerprint)):
            raise InputError(
                f"{self.run.folder} does not hold the same data and checkpoints for all processes; "
                "give a folder that all machines share"
            )
        if found is None:
            self.metrics_log.begin(None)
            return
        self.state = TrainingState.from_json(found.state)
        self.set_weights(found.tensors["model"])
        self.step.optimizer.load_tensors(found.tensors["optimizer"])
        self.best = {name: t.to(self.device) for name, t in found.tensors["best"].items()}
        if self.state.is_packed == bool(self.step.packing):
            self.step.parts = max(self.step.parts, self.state.parts)
        else:
            # From a GPU to a CPU, or back: other batches make up the epoch, other rows may be looked at.
            self.state.batch_index, self.state.epoch_sums, self.state.best_bpb = 0, [0.0] * 4, math.inf
        self.metrics_log.begin(self.state.log_sizes)
        log.info("goes on at step %d", self.state.step)

    @torch.no_grad()
    def set_weights(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.weights().items():
            parameter.copy_(tensors[name])

    def publish(self, limit: str) -> None:
        """model/ with the best weights, then summary.json."""
        self.set_weights(self.best)
        self.run.publish(self.model)
        summary = {
            "parameters": self.model.num_parameters(),
            "steps": self.state.step,
            "epochs": self.state.epoch + self.state.batch_index / len(self.order),
            "seconds": self.state.elapsed_s,
            "train_tokens": self.state.tokens,
            "best_validation_bpb": self.state.best_bpb,
            "best_step": self.state.best_step,
            "stopped_by": limit,
            "precision": self.step.precision,
            "fast_path": "on" if self.step.path.packed else "off",
            "skipped_steps": self.state.skipped,
            "device": str(self.device),
            "processes": self.group.world_size,
            "workers": self.step.workers,
            "threads": torch.get_num_threads(),
            **{f"start_tokens_{name}": count for name, count in self.start_token_counts.items()},
        }
        checkpoint.put_json(self.run.folder / "summary.json", summary)


def cores() -> int:
    """How many this process may use; OMP_NUM_THREADS, where it is set, allows fewer."""
    # Only Linux can keep a process to some of the cores.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, int(os.environ.get("OMP_NUM_THREADS") or sys.maxsize))


def fit(run: Run, stop: threading.Event) -> tuple[Training, str | None]:
    """Train; once, from the last checkpoint, at a lower rate where it has led nowhere.

    Raises:
        InputError: it has led nowhere at the lower rate, too.
    """
    for rate_scale in (1.0, FALLBACK):
        training = Training(run, stop, rate_scale=rate_scale)
        if not training.state.step and training.group.is_main:
            step = training.step
            preflight.check(training.model, training.examples, run, step.precision, step.path)
        try:
            return training, training.fit()
        except Diverged as error:
            if training.state.rate_scale < 1:
                remedy = f"lower train.learning_rate (now {run.train.learning_rate:g})"
                raise InputError(f"{error}; at the full rate it went no better: {remedy}") from None
            log.warning("%s; goes back to the last checkpoint, at %g of the rate", error, FALLBACK)
        del training  # the next one needs its memory
    raise AssertionError("the lower rate is the last that is tried")
