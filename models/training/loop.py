"""The training loop: steps, validations, epochs, checkpoints and resumption."""

import logging
import math
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import system_load
from models.data import batches
from models.errors import InputError
from models.evaluation import collapse
from models.metrics_log import REPLIES, SKIP, STEP, VALIDATION, MetricsLog
from models.text import tokenizer
from models.training import checkpoint, schedule, validation
from models.training.run_folder import Run
from models.training.setup import set_up
from models.training.state import MetricSums, Throughput, TrainingState, step_line
from models.training.step import find_fault, step_seed
from models.training.trunk.night import Night

log = logging.getLogger(__name__)

MAX_FAULTS = 3  # after this many faulty steps in a row, the cause is the weights and not a batch


class Diverged(Exception):
    """The weights can no longer be used; the message says at which step this became apparent."""


class Training:
    """One training run: the loop, and the state that it changes.

    Raises:
        InputError: the run folder's configuration, examples, initial model or checkpoints cannot be used.
    """

    def __init__(self, run: Run, stop: threading.Event, *, rate_scale: float = 1.0) -> None:
        self.run, self.config, self.stop = run, run.train, stop
        self.setup = set_up(run, stop)
        self.key = run.key()
        self.group, self.step, self.model = self.setup.group, self.setup.step, self.setup.model
        self.examples = self.setup.examples
        self.guess_nats = math.log(self.setup.vocab_size)
        self.metrics_log = MetricsLog(run.folder, writes=self.group.is_main)
        self.clock = schedule.Clock.of(run.replay)
        self.night = Night(run, self.model, self.step.optimizer, is_packed=bool(self.step.packing))
        self.past = self.night.past
        self.state = TrainingState(batch_index=self.past.batch_index)
        self.best: dict[str, Tensor] = {}
        self.resume()
        self.state.rate_scale = min(rate_scale, self.state.rate_scale)
        self.sums = MetricSums(self.state.epoch_sums)
        self.window = MetricSums(self.state.window_sums)
        self.throughput, self.system = Throughput(), system_load.Sampler(self.setup.device)
        self.order = self.shuffle(self.state.epoch)
        # With packing, the number of batches may vary slightly by epoch; that of the first epoch is used.
        planned = math.ceil(self.config.max_epochs * len(self.shuffle(0)))
        self.num_steps = min(self.config.max_steps or planned, planned)
        self.validation = validation.sample(run, self.num_steps, epoch_tokens=len(self.examples.ids))

    def fit(self) -> str | None:
        """Train; return the name of the setting whose limit ended training, or None if training was stopped.

        Raises:
            Diverged: several steps in a row had no usable gradient, or the validation loss is not finite.
            InputError: a single sequence does not fit into memory.
        """
        self.saved_s = self.clock.start()
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
                    self.metrics_log.write_elapsed(self.state.elapsed_s)
                    self.end_epoch()
                    self.sample_replies()
                branches = self.night.branch(self.state, progress, writes=self.group.is_main)
                if branches or limit or stopping or is_save_due:
                    self.save()
            if limit or stopping:
                return limit
            rate = self.state.rate_scale * self.learning_rate(progress)
            self.train_step(self.order[self.state.batch_index], rate)
            if self.state.step % self.config.log_every == 0:
                self.log_step(rate)

    def learning_rate(self, progress: float) -> float:
        step, stable_share = self.past.steps + self.state.step, self.night.stable_share
        return schedule.learning_rate_at(step, progress, self.config, stable_share=stable_share)

    def tick(self) -> tuple[bool, bool]:
        """Return whether any process was asked to stop, and whether the main process must save now."""
        self.clock.advance(self.state)
        is_save_due = self.clock.now_s - self.saved_s > self.config.checkpoint_seconds
        answers = self.group.all_gather(self.state.elapsed_s, self.stop.is_set(), is_save_due)
        self.state.elapsed_s = self.clock.at_step(self.state.step, answers[0][0])
        return any(stops for _, stops, _ in answers), bool(answers[0][2])

    def train_step(self, rows: NDArray[np.int64], rate: float) -> None:
        """Make one optimizer step on these rows, or skip the step if its loss or gradient is faulty.

        Raises:
            Diverged: several steps in a row were faulty.
            InputError: a single sequence does not fit into memory.
        """
        self.metrics_log.write_elapsed(self.state.elapsed_s)
        seed = step_seed(self.config.seed, self.past.steps + self.state.step, self.group.rank)
        step_sums = self.step.gradient(rows, seed=seed)
        if fault := find_fault(step_sums, self.guess_nats):
            self.skip_step(rows, fault)
        else:
            self.step.update(rate)
            self.sums.add(step_sums)
            self.window.add(step_sums)
            self.state.faults_in_a_row = 0
        num_tokens = int(self.setup.sides[rows].sum())
        self.throughput.tokens += num_tokens
        self.state.tokens += num_tokens
        self.state.step += 1
        self.state.batch_index += 1

    def skip_step(self, rows: NDArray[np.int64], fault: str) -> None:
        """Drop the gradient of a faulty step, log the fault and count it.

        Raises:
            Diverged: MAX_FAULTS steps in a row were faulty, so the cause is the weights and not a batch.
        """
        self.step.drop()
        self.state.skipped += 1
        self.state.faults_in_a_row += 1
        named = batches.name_rows(self.setup.table, rows)
        self.metrics_log.write(SKIP, step=self.state.step, fault=fault, conversations=named)
        log.warning("step %d is skipped: %s; conversations in its batch: %s", self.state.step, fault, named)
        if self.state.faults_in_a_row == MAX_FAULTS:
            first = self.state.step - MAX_FAULTS + 1
            span = f"steps {first} to {self.state.step} were faulty"
            raise Diverged(f"{span}; fault of the last step: {fault}; conversations in its batch: {named}")

    def log_step(self, rate: float) -> None:
        """Write a line of metrics for the steps since the last line and, if due, a line of system load."""
        sums = self.window.read()
        self.window.clear()
        self.clock.advance(self.state)
        line = step_line(
            self.state,
            sums,
            progress=schedule.progress(self.state, self.num_steps, self.config),
            num_batches=len(self.order),
            num_steps=self.config.log_every,
            rate=rate,
            tokens_per_second=self.throughput.read(),
        )
        self.metrics_log.write(STEP, **line)
        self.system.write(self.metrics_log, self.state.step)

    def end_epoch(self) -> None:
        """Log the metrics of a complete or partial epoch; if it is complete, begin the next epoch.

        Raises:
            Diverged: the validation loss is not finite.
        """
        whole = self.state.batch_index == len(self.order)
        if self.state.last_epoch_log_step != self.state.step:
            self.validate(schedule.progress(self.state, self.num_steps, self.config))
            nats, correct, tokens, _ = self.sums.read()
            self.metrics_log.write_epoch(
                epoch=round(self.state.epoch + self.state.batch_index / len(self.order), 2),
                step=self.state.step,
                # The means are taken over all tokens of the epoch, not over its steps.
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
        """Log statistics of greedy replies, at most once per step, and warn if they have collapsed."""
        if self.state.last_reply_sample_tokens == self.state.tokens:
            return
        self.state.last_reply_sample_tokens = self.state.tokens
        if not self.group.is_main:
            return
        stats = collapse.sample_replies(
            self.model, self.validation, tokenizer.load_special_tokens(self.run.tokenizer)
        )
        alarm = stats.alarm()
        self.metrics_log.write(REPLIES, step=self.state.step, **stats.figures(), alarm=alarm)
        if alarm:
            log.warning("the replies at step %d have collapsed: %s", self.state.step, alarm)

    def validate(self, progress: float) -> None:
        """Score the validation sample, at most once per step, and keep a copy of the best weights so far.

        Raises:
            Diverged: the validation loss is not finite.
        """
        self.state.num_validations = int(progress * self.config.validations)
        if self.state.validated_step == self.state.step:
            return
        own = validation.score(self.model, self.validation, self.step) if self.group.is_main else (0.0,) * 4
        loss, accuracy, bpb, seconds = self.group.all_gather(*own)[0]
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss at step {self.state.step} is {loss:g}")
        seconds = self.clock.of_validation(self.state.step, seconds)
        self.state.validation_s += seconds
        figures = {"loss": loss, "accuracy": accuracy, "bpb": bpb}
        self.metrics_log.write(VALIDATION, step=self.state.step, **figures, seconds=seconds)
        self.state.validation = figures
        self.state.validated_step = self.state.step
        if bpb < self.state.best_bpb:
            self.state.best_bpb, self.state.best_step = bpb, self.state.step
            self.state.validations_since_best = 0
            self.best = {name: value.detach().clone() for name, value in self.weights().items()}
        else:
            self.state.validations_since_best += 1

    def shuffle(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each batch of the epoch, in the order of training."""
        config, epoch = self.config, self.past.epoch + epoch
        if self.step.packing:
            return self.step.packing.epoch_batches(seed=config.seed, epoch=epoch)
        return batches.epoch_batches(self.setup.sides, config.batch_tokens, seed=config.seed, epoch=epoch)

    def weights(self) -> dict[str, Tensor]:
        """The trainable weights by name; a tied matrix has only one entry."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def save(self) -> None:
        """Write a checkpoint, unless the last step was faulty.

        Raises:
            OSError: the disk is full; earlier checkpoints are kept.
        """
        if self.state.faults_in_a_row or not self.group.is_main:
            return  # the weights may be faulty, too, so the previous checkpoint remains the newest
        self.state.epoch_sums, self.state.window_sums = self.sums.read(), self.window.read()
        self.state.log_sizes, self.state.parts = self.metrics_log.synced_sizes(), self.step.parts
        self.state.is_packed = bool(self.step.packing)
        optimizer = self.step.optimizer.tensors()
        tensors = {"model": self.weights(), "optimizer": optimizer, "best": self.best}
        folder = self.run.folder / "checkpoints"
        checkpoint.save(folder, self.state.step, tensors, self.state.to_json(), key=self.key)
        self.saved_s = self.clock.now_s

    def resume(self) -> None:
        """Restore the newest complete checkpoint of this training run, if there is one.

        Raises:
            InputError: the processes see different data or checkpoints.
        """
        found = checkpoint.load_newest(self.run.folder / "checkpoints", key=self.key)
        # Compare only twelve hexadecimal digits of the key, which a float64 can represent exactly.
        fingerprint = [int(self.key[:12], 16), -1 if found is None else found.state["step"]]
        if any(other != fingerprint for other in self.group.all_gather(*fingerprint)):
            raise InputError(
                f"{self.run.folder}: the processes of this training run see different data or checkpoints; "
                "give a folder that all machines share"
            )
        if found is None:
            self.metrics_log.begin(None)
            return
        self.state = TrainingState.from_json(found.state)
        self.set_weights(found.tensors["model"])
        self.step.optimizer.load_tensors(found.tensors["optimizer"])
        self.best = {name: t.to(self.setup.device) for name, t in found.tensors["best"].items()}
        if self.state.is_packed == bool(self.step.packing):
            self.step.parts = max(self.step.parts, self.state.parts)
        else:
            # The checkpoint was written with packed batches and this run uses padded batches, or vice versa.
            # The epoch has different batches and starts again; the validation sample may change, too.
            self.state.batch_index, self.state.epoch_sums, self.state.best_bpb = 0, [0.0] * 4, math.inf
        self.metrics_log.begin(self.state.log_sizes)
        log.info("resuming at step %d", self.state.step)

    @torch.no_grad()
    def set_weights(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.weights().items():
            parameter.copy_(tensors[name])
