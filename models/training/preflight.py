"""Preflight checks of a network, its batches and its loss before a long training run begins.

Each check catches a common bug, such as a leaking mask, targets that are shifted twice or an encoder that is
not used, and is named after its subject. The checks run on a copy of the network and on a few rows of the
examples. The file is long because each check is a method of its own.

The suffix of a tensor's name gives its shape: B batch, T tokens, N positions with loss, D width, V
vocabulary.
"""

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from models import devices
from models.data import batches
from models.devices import STANDARD_PATH, FastPath
from models.generation.config import GenerationConfig
from models.generation.generator import Generator, evaluating
from models.network import networks
from models.text import tokenizer
from models.training import checkpoint
from models.training.run_folder import Run
from models.training.step import GradientStep

log = logging.getLogger(__name__)

NUM_ROWS = 8  # number of rows in the batch that the checks use
TOLERANCE = 1e-3  # permitted difference between two float32 sums of the same terms in different orders
# Permitted difference of a network's first loss from ln V: this share of ln V, or 0.5 if that is greater.
FIRST_LOSS = 0.1


class OverfitGoal(NamedTuple):
    """How far the loss must fall when a network overfits one batch."""

    steps: int
    rate: float
    share: float  # the last loss must be below this share of the first loss


FROM_SCRATCH = OverfitGoal(steps=100, rate=3e-3, share=0.5)  # a loss this low requires learning the batch
# Pretrained networks are slow and already have a low loss, so the loss must fall by only 1 %.
FROM_WEIGHTS = OverfitGoal(steps=12, rate=3e-4, share=0.99)
WITH_ADAPTERS = OverfitGoal(steps=24, rate=3e-3, share=0.99)  # adapters have no effect in the first steps


class Defect(Exception):
    """The code or the network has a defect; the message is `preflight: NAME: FINDING`."""

    def __init__(self, name: str, finding: str) -> None:
        super().__init__(f"preflight: {name}: {finding}")


class Preflight:
    """The checks of one training run; each check raises Defect if it fails."""

    def __init__(
        self,
        model: PreTrainedModel,
        examples: batches.Examples,
        run: Run,
        precision: str,
        path: FastPath = STANDARD_PATH,
    ) -> None:
        self.run = run
        self.fresh = run.start is None
        self.special_tokens = tokenizer.load_special_tokens(run.tokenizer)
        self.model = copy.deepcopy(model)
        # This step is sized for a few rows, because the buffers for a training batch may be large.
        small = run.train.model_copy(update={"batch_tokens": 1})
        self.step = GradientStep(self.model, examples, small, workers=1, path=path)
        self.precision = precision
        self.has_encoder = self.step.has_encoder
        # Take rows of different lengths, so that there is padding, but not the longest, which are slow.
        by_length = np.argsort(examples.lengths, kind="stable")
        self.row_ids = by_length[(np.linspace(0.1, 0.8, NUM_ROWS) * len(by_length)).astype(np.int64)]
        self.rows = [examples.row(i) for i in self.row_ids]
        if self.step.packing:
            self.step.packing.grow(self.row_ids)
        self.vocabulary = networks.lm_head(model).weight.shape[0]

    def checks(self) -> dict[str, Callable[[], None]]:
        """The checks by name, in the order in which they run; those that train the copy come last."""
        first = self.first_loss if self.fresh else self.no_worse_than_a_guess
        return {
            "control tokens": self.control_tokens,
            "targets": self.targets,
            "causality": self.causality,
            "padding": self.padding,
            "context": self.context,
            "loss": self.loss,
            "first loss": first,
            "batch without a reply": self.batch_without_a_reply,
            "one batch learnt": self.one_batch_learnt,
            "saved and loaded": self.saved_and_loaded,
        }

    def control_tokens(self) -> None:
        """Check that special tokens have the right ids and each token has a row in the output embedding."""
        known = tokenizer.load(self.run.tokenizer)
        size, is_ours = known.get_vocab_size(), self.special_tokens is tokenizer.DEFAULT_SPECIAL_TOKENS
        ids = [known.token_to_id(token) for token in tokenizer.CONTROL]
        if is_ours and ids != [tokenizer.PAD, tokenizer.START, tokenizer.END, tokenizer.UNK]:
            raise Defect("control tokens", f"{', '.join(tokenizer.CONTROL)} have the ids {ids}")
        if self.special_tokens.end in self.special_tokens.banned:
            raise Defect(
                "control tokens", f"token {self.special_tokens.end} ends replies and is also a banned token"
            )
        # The embedding of a network that was trained elsewhere may have more rows than there are tokens.
        if size > self.vocabulary or (is_ours and size != self.vocabulary):
            raise Defect(
                "control tokens", f"{size} tokens, but {self.vocabulary} rows in the output embedding"
            )

    def targets(self) -> None:
        """Check that exactly the reply tokens, even <end>, are targets, each at the position before it."""
        batch = self.batch()
        for row, (ids, flags) in enumerate(self.rows):
            inputs, targets = batch.inputs_BT[row].numpy(), batch.targets_BT[row].numpy()
            positions = np.flatnonzero(targets != batches.NO_LOSS)
            if targets[positions].tolist() != ids[flags].tolist():
                message = (
                    f"the {len(positions)} targets of row {row} are not its {int(flags.sum())} reply ids"
                )
                raise Defect(
                    "targets", f"{message}: padding, context or the end of a reply is handled wrongly"
                )
            before = inputs[positions]
            expected = np.concatenate([[tokenizer.START], ids[flags][:-1]])
            if not self.has_encoder:
                expected = ids[np.flatnonzero(flags) - 1]
            if before.tolist() != expected.tolist():
                raise Defect("targets", f"row {row}: a target is shifted: it is not the id after its input")

    def causality(self) -> None:
        """Check that a position's hidden state depends on its own and earlier tokens, not on later tokens."""
        batch = self.batch()
        before_BTD = self.hidden_states(batch)
        position = batch.inputs_BT.shape[1] // 2
        later = batch.inputs_BT.clone()
        later[:, position:] = (later[:, position:] + 1) % self.vocabulary
        after_BTD = self.hidden_states(replace(batch, inputs_BT=later))
        if not close(before_BTD[:, :position], after_BTD[:, :position]):
            raise Defect("causality", f"the tokens from position {position} on affect earlier hidden states")
        if close(before_BTD[:, position:], after_BTD[:, position:]):
            raise Defect("causality", "the network ignores its input: it does not affect the hidden states")

    def padding(self) -> None:
        """Check that a row's loss does not depend on the other rows of its batch."""
        together = self.row_nats(self.rows)
        alone = [self.row_nats([row])[0] for row in self.rows]
        for row, (one, other) in enumerate(zip(together, alone, strict=True)):
            if abs(one - other) > TOLERANCE * max(1.0, abs(one)):
                raise Defect("padding", f"the loss of row {row} is {one:.4f} in a batch, {other:.4f} alone")

    def context(self) -> None:
        """Check that the loss of a reply depends on its context."""
        shifted = [
            (np.where(flags | (np.arange(len(ids)) == 0), ids, 4 + (ids + 1) % (self.vocabulary - 4)), flags)
            for ids, flags in self.rows
        ]
        pairs = zip(self.row_nats(self.rows), self.row_nats(shifted), strict=True)
        if all(abs(one - other) <= 1e-6 * abs(one) for one, other in pairs):
            part = "encoder" if self.has_encoder else "context"
            raise Defect("context", f"the {part} is not used: the loss is the same with a different context")

    def loss(self) -> None:
        """Check that the step computes the same loss as torch's cross-entropy."""
        batch = self.batch()
        total, nats_N, _, is_reply_N = self.step.forward(self.step.batch(self.row_ids))
        logits_BTV, targets_BT = self.logits(batch), batch.targets_BT
        replies = float(
            F.cross_entropy(logits_BTV.mT, targets_BT, ignore_index=batches.NO_LOSS, reduction="sum")
        )
        others, silent_BT = 0.0, self.step.examples.silent_targets(self.row_ids)
        if self.run.train.context_loss and not self.has_encoder:
            for row, (ids, flags) in enumerate(self.rows):
                positions = np.flatnonzero(~flags[1:])
                if silent_BT is not None:
                    positions = positions[~silent_BT[row].numpy()[positions]]
                nats = F.cross_entropy(
                    logits_BTV[row, positions], torch.from_numpy(ids[positions + 1]), reduction="sum"
                )
                others += self.run.train.context_loss * float(nats)
        for computed, expected in (
            (float(nats_N[is_reply_N].sum()), replies),
            (float(total.detach()), replies + others),
        ):
            if not abs(computed - expected) <= TOLERANCE * max(1.0, expected):
                raise Defect("loss", f"the step computes {computed:.4f}, but torch computes {expected:.4f}")

    def first_loss(self) -> None:
        """Check that the first loss with random weights is close to the loss of a uniform guess."""
        loss, guess = self.mean_nats(), math.log(self.vocabulary)
        if not abs(loss - guess) <= max(0.5, FIRST_LOSS * guess):
            message = f"the first loss is {loss:.2f} nats per token, against {guess:.2f} for a uniform guess"
            raise Defect("first loss", f"{message}: the initial weights are wrong")

    def no_worse_than_a_guess(self) -> None:
        """Check that the first loss of a trained network is no higher than the loss of a uniform guess."""
        loss, guess = self.mean_nats(), math.log(self.vocabulary)
        if not loss <= guess + max(0.5, FIRST_LOSS * guess):
            message = f"the first loss is {loss:.2f} nats per token, against {guess:.2f} for a uniform guess"
            raise Defect("first loss", f"{message}: the initial model does not match this vocabulary")

    def batch_without_a_reply(self) -> None:
        """Check that the loss and the gradient of a batch without reply tokens are finite."""
        # An encoder-decoder gets the context alone, because its encoder has too few positions for both turns.
        silent = [ids[~flags] if self.has_encoder else ids for ids, flags in self.rows]
        batch = batches.collate(
            [(ids, np.zeros(len(ids), dtype=bool)) for ids in silent], has_encoder=self.has_encoder
        )
        step_sums = self.step.differentiate(batch, 0)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.step.drop()
        if not (
            bool(step_sums.isfinite().all())
            and all(bool(gradient.isfinite().all()) for gradient in gradients)
        ):
            raise Defect("batch without a reply", "the loss or the gradient is not finite")

    def one_batch_learnt(self) -> None:
        """Check that the copy of the network can overfit one batch, in the precision of the training run."""
        self.step.precision = self.precision
        goal = FROM_SCRATCH if self.fresh else WITH_ADAPTERS if self.run.train.lora_rank else FROM_WEIGHTS
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=goal.rate, weight_decay=0.0)
        first = last = math.nan
        for _ in range(goal.steps):
            nats, _, tokens, _ = self.step.gradient(self.row_ids, seed=0).tolist()
            optimizer.step()
            self.step.drop()
            last = nats / tokens
            first = last if math.isnan(first) else first
            if last < goal.share * first:
                return
        message = f"the loss on one batch is {last:.2f} after {goal.steps} steps on it; it was {first:.2f}"
        raise Defect("one batch learnt", message)

    def saved_and_loaded(self) -> None:
        """Check that saving and loading the network preserves its hidden states and its greedy reply."""
        batch = self.batch()
        before_BTD = self.hidden_states(batch)
        with tempfile.TemporaryDirectory(dir=self.run.folder, prefix=checkpoint.TEMPORARY) as folder:
            networks.save(self.model, Path(folder))
            loaded = networks.load(Path(folder), self.model.device)
        original, self.model = self.model, loaded
        after_BTD = self.hidden_states(batch)
        self.model = original
        if not close(before_BTD, after_BTD):
            raise Defect("saved and loaded", "the loaded network computes different hidden states")
        ids, flags = self.rows[0]
        context, greedy = ids[: int(np.argmax(flags))].tolist(), GenerationConfig(temperature=0, max_tokens=8)
        replies = [
            Generator(model, self.special_tokens).reply(context, greedy).ids for model in (original, loaded)
        ]
        if replies[0] != replies[1]:
            raise Defect("saved and loaded", f"the reply is {replies[0]}, but {replies[1]} after loading")

    def batch(self) -> batches.Batch:
        return batches.collate(self.rows, has_encoder=self.has_encoder)

    def hidden_states(self, batch: batches.Batch) -> Tensor:
        """hidden_BTD in float32, without dropout."""
        with evaluating(self.model), torch.no_grad():
            return networks.hidden_states(self.model, batch.to(self.model.device)).cpu()

    def logits(self, batch: batches.Batch) -> Tensor:
        """logits_BTV in float32, without dropout."""
        with torch.no_grad():
            logits_BTV: Tensor = networks.lm_head(self.model)(self.hidden_states(batch).to(self.model.device))
        return logits_BTV.float().cpu()

    def row_nats(self, rows: list[batches.Row]) -> list[float]:
        """The negative log-likelihood of each row's reply tokens, in nats."""
        batch = batches.collate(rows, has_encoder=self.has_encoder)
        nats_BT = F.cross_entropy(
            self.logits(batch).mT, batch.targets_BT, ignore_index=batches.NO_LOSS, reduction="none"
        )
        return [float(nats) for nats in nats_BT.double().sum(1)]

    def mean_nats(self) -> float:
        return sum(self.row_nats(self.rows)) / int((self.batch().targets_BT != batches.NO_LOSS).sum())


def close(one_BTD: Tensor, other_BTD: Tensor) -> bool:
    return torch.allclose(one_BTD, other_BTD, rtol=1e-3, atol=1e-4)


def check(
    model: PreTrainedModel,
    examples: batches.Examples,
    run: Run,
    precision: str,
    path: FastPath = STANDARD_PATH,
) -> None:
    """Run all checks, unless they have already passed in this run folder.

    The checks change neither the network nor the state of the random generators.

    Raises:
        Defect: a check has failed.
    """
    record = run.folder / "preflight.json"
    if record.exists():
        return
    start_s = time.monotonic()
    with devices.random_state_restored(model.device), evaluating(model):
        checks = Preflight(model, examples, run, precision, path).checks()
        for each in checks.values():
            each()
    seconds = time.monotonic() - start_s
    checkpoint.put_json(record, {"checks": list(checks), "seconds": seconds})
    log.info("preflight: all checks passed (%s) in %.1f s", ", ".join(checks), seconds)
