"""Evaluate: how good a model is on the frozen test split, in figures, replies and a picture.

The test split is text: each model reads it with its own vocabulary and is charged for the same bytes.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect import task
from pydantic import Field

from models.config import Config
from models.data.examples import encode_split, read_split
from models.data.schemas import EXAMPLES
from models.generation.config import GenerationConfig
from models.text.config import MarkupConfig
from models.text.encoding import encode_context, read_dialogue
from models.text.normalisation import display, normalise
from tasks.store.artifact import Artifact
from tasks.store.stage import Stage, named

if TYPE_CHECKING:
    from models.evaluation.metrics import Score

log = logging.getLogger(__name__)

OPENERS = ("Hello.", "How are you?", "What is your name?", "Where do you live?", "Thank you.", "Goodbye.")


class EvaluateConfig(Config):
    max_replies: int | None = Field(default=None, ge=1)
    """Test replies that are scored, about, in whole conversations spread evenly; none: all of them. The
    champion is measured on the same ones."""
    sample_replies: int = Field(default=200, ge=10)
    """Test contexts that are answered greedily, for the figures about whole replies."""
    shown_replies: int = Field(default=12, ge=1)
    """How many of them stand in the report."""


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
    told = {
        "bpb": score.bpb,
        "perplexity": score.perplexity,
        "accuracy": score.accuracy,
        "replies": score.replies,
        "max_replies": max_replies,
        "normalisation": normalisation,
        "groups": groups,
    }
    path.write_text(json.dumps(told) + "\n")


def reply_counts(examples: Path) -> dict[int, int]:
    """How often each token stands in the replies of an EXAMPLES file."""
    table = pq.read_table(examples, columns=["ids", "is_reply"])
    tokens = pc.filter(pc.list_flatten(table["ids"]), pc.list_flatten(table["is_reply"]))
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(tokens).to_pylist()}


def sample_cases(turns: Path, normalisation: Any, count: int) -> list[tuple[list[str], str]]:
    """(context, what was said): the openers, then a reply each of test conversations spread evenly."""
    conversations = [texts for _, _, texts in read_split(turns, "test")]
    chosen = conversations[:: max(1, len(conversations) // count)][:count]
    places = [1 + i % (len(texts) - 1) for i, texts in enumerate(chosen)]
    openers: list[tuple[list[str], str]] = [([normalise(text, normalisation)], "") for text in OPENERS]
    return openers + [(texts[:place], texts[place]) for texts, place in zip(chosen, places, strict=True)]


def answer(folder: Path, contexts: list[list[str]]) -> list[tuple[str, list[int], bool]]:
    """(text, ids, whether it ended by itself) of the greedy reply to each context."""
    from models.generation.generator import Generator
    from models.network import networks
    from models.text import tokenizer
    from models.text.chat_template import load_rendering

    made, learnt, rendering = read_dialogue(folder), tokenizer.load(folder), load_rendering(folder)
    markup = MarkupConfig(**made["markup"])
    encoded = [encode_context(context, learnt, markup, rendering) for context in contexts]
    generator = Generator(networks.load(folder), rendering.control)
    replies = generator.replies(encoded, GenerationConfig(temperature=0))
    return [(display(learnt.decode(r.ids), made["normalisation"]), list(r.ids), r.finished) for r in replies]


def reply_figures(replies: list[tuple[str, list[int], bool]]) -> dict[str, float]:
    """Figures about whole replies: do they vary, do they repeat themselves, do they end?"""
    from models.evaluation import metrics

    ids = [reply for _, reply, _ in replies]
    return {
        "distinct_1": metrics.distinct_n(ids, 1),
        "distinct_2": metrics.distinct_n(ids, 2),
        "repetition": metrics.repetition(ids),
        "stopped_share": metrics.stopped_share([finished for *_, finished in replies]),
        "commonest_reply_share": metrics.commonest_reply_share([text for text, *_ in replies]),
    }


def evaluate_model(out: Path, config: EvaluateConfig, train: Path, clean: Path, export: Path) -> int:
    """score.json, report.json, report.md and loss.png; returns the replies scored."""
    from models.evaluation import metrics, plots
    from models.network import networks

    model, turns = train / "model", clean / "turns.parquet"
    normalisation = read_dialogue(model)["normalisation"]
    score = score_model(model, turns, config.max_replies)
    write_score(score, normalisation, config.max_replies, out / "score.json")
    cases = sample_cases(turns, normalisation, config.sample_replies)
    replies = answer(model, [context for context, _ in cases])
    figures = {
        "test_bpb": score.bpb,
        "test_perplexity": score.perplexity,
        "test_accuracy": score.accuracy,
        "test_majority_accuracy": metrics.majority_accuracy(
            reply_counts(export / "train.parquet"), reply_counts(export / "test.parquet")
        ),
        **reply_figures(replies),
        "test_replies": score.replies,
        "test_replies_in_all": count_replies(turns),
        "test_bytes": score.bytes,
        "parameters": networks.load(model).num_parameters(),
    }
    shown = [
        {"context": context, "reply": text, "said": said}
        for (context, said), (text, *_) in zip(cases, replies, strict=True)
    ][: config.shown_replies]
    report = {"metrics": figures, "normalisation": normalisation, "samples": shown}
    (out / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    (out / "report.md").write_text(to_markdown(report))
    plots.loss_curves(train / "logs" / "metrics.jsonl", out / "loss.png")
    return score.replies


def figure_table(figures: Mapping[str, float]) -> str:
    """Figures as a Markdown table; counts are whole."""
    rows = [
        f"| {key} | {value:,} |" if isinstance(value, int) else f"| {key} | {value:.4f} |"
        for key, value in figures.items()
    ]
    return "\n".join(["| figure | value |", "| --- | --- |", *rows])


def to_markdown(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    shown = [
        f"| {' / '.join(row['context'][-3:])} | {row['reply']} | {row['said']} |" for row in report["samples"]
    ]
    figures = figure_table(report["metrics"])
    replies = "\n".join(
        [
            "| context | reply (temperature 0) | what was said |",
            "| --- | --- | --- |",
            *(line.replace("\n", " ") for line in shown),
        ]
    )
    return f"## Test split\n\n{figures}\n\n## Replies\n\n{replies}\n"


STAGE = Stage("evaluate", evaluate_model)


@task(task_run_name="evaluate")
def evaluate(
    train: Artifact, clean: Artifact, export: Artifact, config: EvaluateConfig, home: Path
) -> Artifact:
    return named(STAGE.run(home, config, {"train": train, "clean": clean, "export": export}))
