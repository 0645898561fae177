"""The scorecard: a model's bits per byte on the frozen test split, in total and for each group.

The test split is stored as text. Each model encodes it with its own vocabulary, but all models are scored on
the same bytes.
"""

import hashlib
import logging
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.config import Config
from models.data.conversations import Conversation, read_split
from models.data.examples import encode_split
from models.data.schemas import EXAMPLES
from models.evaluation.checks.cases import Case
from models.evaluation.checks.results import Result, passed_share, run_cases
from models.evaluation.guards import Reply
from models.evaluation.replies import (
    Answer,
    answer_cases,
    compared_replies,
    openers_of,
    reply_figures,
    sample_cases,
)
from models.record import Record
from models.text.encoding import read_model_info

if TYPE_CHECKING:
    from models.evaluation.metrics import Score

log = logging.getLogger(__name__)

SCORE = "score.json"


def score_model(folder: Path, turns: Path, max_replies: int | None = None) -> "Score":
    """The model's score on the test split of `turns`, which is encoded with the model's own vocabulary.

    `max_replies` selects the same conversations for every model.
    """
    from models.evaluation import metrics  # torch takes seconds to import
    from models.network import networks  # torch takes seconds to import

    info = read_model_info(folder)
    every = _every(turns, max_replies)
    encoded = encode_split(turns, "test", folder, info.markup, every=every, with_system=info.has_system)
    batches = [batch.select(EXAMPLES.names) for batch in encoded]
    examples = pa.Table.from_batches(batches, EXAMPLES)
    if every > 1:
        scored = pc.sum(examples["replies"]).as_py()
        whole = count_replies(turns)
        log.info("scoring %s of %s test replies (evaluate.max_replies)", f"{scored:,}", f"{whole:,}")
    return metrics.score(networks.load(folder), examples)


def _every(turns: Path, max_replies: int | None) -> int:
    """Every how many conversations of the test split one is scored, for about `max_replies` replies."""
    return math.ceil(count_replies(turns) / max_replies) if max_replies else 1


def test_text_digest(turns: Path, max_replies: int | None) -> str:
    """A digest of the conversations that are scored. It does not depend on their order."""
    scored = islice(read_split(turns, "test"), 0, None, _every(turns, max_replies))
    digests = sorted(
        hashlib.sha256(repr(_scored_part(each)).encode("utf-8", "replace")).digest() for each in scored
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()[:32]


def _scored_part(conversation: Conversation) -> tuple[object, ...]:
    """What the score of a conversation depends on; without a system text, what it was in earlier releases."""
    group, texts, has_loss, system = conversation[1:]
    return (group, texts, has_loss, system) if system else (group, texts, has_loss)


def count_replies(turns: Path) -> int:
    """Count the replies of the whole test split: the turns with weight, without first turns."""
    table = pq.read_table(turns, columns=["turn", "weight"], filters=[("split", "=", "test")])
    return int(table.filter((pc.field("turn") > 0) & (pc.field("weight") > 0)).num_rows)


class ScoreRecord(Record):
    """score.json: the bits per byte that the gate compares, and the model's other scores."""

    bpb: float
    """Bits per byte of the replies, as docs/decisions/0004-bits-per-byte-on-text.md defines them."""
    perplexity: float = math.nan
    accuracy: float = math.nan
    replies: int = 0
    max_replies: int | None = None
    normalisation: str
    test_set: str = ""
    """A digest of the conversations that were scored (`test_text_digest`)."""
    openers: dict[str, str] = {}
    """The greedy replies to the fixed openers of a conversation (models/evaluation/replies.py)."""
    groups: dict[str, list[float]] = {}
    """For each group, its negative log-likelihood in nats and its number of bytes."""
    greedy: list[Reply] = []
    """The greedy replies to sampled contexts of the test split, which the guards compare."""
    reply_figures: dict[str, float] = {}
    """Statistics of the greedy replies (models/evaluation/replies.py)."""
    checks: list[Result] = []
    """The results of the checks (models/evaluation/checks)."""

    def figures(self) -> dict[str, float]:
        """The scores of this record, by the names that a report uses."""
        return {
            "test_bpb": self.bpb,
            "test_perplexity": self.perplexity,
            "test_accuracy": self.accuracy,
            "test_replies": self.replies,
            **self.reply_figures,
            **self.check_figures,
        }

    @property
    def check_figures(self) -> dict[str, float]:
        """The share of the replies to the checks that pass; empty if there are no checks."""
        return {"test_checks_passed": passed_share(self.checks)} if self.checks else {}


def record_score(
    score: "Score",
    turns: Path,
    normalisation: str,
    max_replies: int | None,
    replies: Sequence[Answer],
    checks: Sequence[Result] = (),
) -> ScoreRecord:
    """
    Args:
        replies: the model's replies to all of `sample_cases`.
    """
    return ScoreRecord(
        bpb=score.bpb,
        perplexity=score.perplexity,
        accuracy=score.accuracy,
        replies=score.replies,
        max_replies=max_replies,
        normalisation=normalisation,
        test_set=test_text_digest(turns, max_replies),
        openers=openers_of(replies),
        groups={name: list(figures) for name, figures in sorted(score.by_group.items())},
        greedy=compared_replies(replies),
        reply_figures=reply_figures(replies),
        checks=list(checks),
    )


class RescoreConfig(Config):
    """The settings with which the champion is scored on the same test replies as the new model."""

    max_replies: int | None = None
    """`evaluate.max_replies` of the new model with which the champion is compared."""
    sample_replies: int = 200
    """`evaluate.sample_replies` of the new model: the number of contexts whose replies are compared."""
    cases: tuple[Case, ...] = ()
    """The checks that the new model has answered."""


def rescore_champion(out: Path, config: RescoreConfig, champion: Path, clean: Path) -> int:
    """Score the champion on this corpus's test split; write score.json, and return the number of replies."""
    turns = clean / "turns.parquet"
    score = score_model(champion, turns, config.max_replies)
    normalisation = read_model_info(champion).normalisation
    replies = answer_cases(champion, sample_cases(turns, normalisation, config.sample_replies))
    checks = run_cases(champion, config.cases)
    record = record_score(score, turns, normalisation, config.max_replies, replies, checks)
    record.write(out / SCORE)
    return score.replies
