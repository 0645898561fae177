"""Scorecard: a model's bits per byte on the frozen test split, in all and of each group.

The test split is text: each model reads it with its own vocabulary and is charged for the same bytes.
"""

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.config import Config
from models.data.examples import encode_split
from models.data.schemas import EXAMPLES
from models.text.config import MarkupConfig
from models.text.encoding import read_dialogue

if TYPE_CHECKING:
    from models.evaluation.metrics import Score

log = logging.getLogger(__name__)


def score_model(folder: Path, turns: Path, max_replies: int | None = None) -> "Score":
    """The model's score on the test split of `turns`, read with the model's own vocabulary.

    Which conversations `max_replies` leaves depends on the text alone: they are any model's.
    """
    from models.evaluation import metrics  # torch takes seconds to import
    from models.network import networks  # torch takes seconds to import

    markup = MarkupConfig(**read_dialogue(folder)["markup"])
    whole = count_replies(turns)
    every = math.ceil(whole / max_replies) if max_replies else 1
    examples = pa.Table.from_batches(encode_split(turns, "test", folder, markup, every=every), EXAMPLES)
    if every > 1:
        scored = pc.sum(examples["replies"]).as_py()
        log.info("scores %s of %s test replies (evaluate.max_replies)", f"{scored:,}", f"{whole:,}")
    return metrics.score(networks.load(folder), examples)


def count_replies(turns: Path) -> int:
    """Of the whole test split: each turn but a conversation's first."""
    table = pq.read_table(turns, columns=["conversation_id"], filters=[("split", "=", "test")])
    return int(table.num_rows) - int(pc.count_distinct(table["conversation_id"]).as_py())


def write_score(score: "Score", normalisation: str, max_replies: int | None, path: Path) -> None:
    """What the gate compares, bits per byte in all and of each group, and the figures beside it."""
    groups = {name: list(figures) for name, figures in sorted(score.by_group.items())}
    scores = {
        "bpb": score.bpb,
        "perplexity": score.perplexity,
        "accuracy": score.accuracy,
        "replies": score.replies,
        "max_replies": max_replies,
        "normalisation": normalisation,
        "groups": groups,
    }
    path.write_text(json.dumps(scores) + "\n")


class RescoreConfig(Config):
    """The champion is scored as it is, on what the other was scored on."""

    max_replies: int | None = None
    """`evaluate.max_replies` of the model that it is compared with."""


def rescore_champion(out: Path, config: RescoreConfig, champion: Path, clean: Path) -> int:
    """score.json: the champion on this corpus's test split; returns the replies scored."""
    score = score_model(champion, clean / "turns.parquet", config.max_replies)
    write_score(score, read_dialogue(champion)["normalisation"], config.max_replies, out / "score.json")
    return score.replies
