"""The report on a model: metrics and replies on the frozen test split, and a plot of its training."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from models.config import Config
from models.evaluation.checks.cases import Case
from models.evaluation.checks.results import Result, run_cases
from models.evaluation.figures import figure_table
from models.evaluation.replies import answer_cases, sample_cases
from models.evaluation.scorecard import SCORE, count_replies, record_score, score_model
from models.markdown import markdown_table
from models.record import Record
from models.text.encoding import read_model_info

log = logging.getLogger(__name__)

REPORT = "report.json"
FACTS = (
    *("test_majority_accuracy", "test_replies", "test_replies_in_all", "test_bytes", "parameters"),
    "test_checks_passed",
)
"""The metrics that describe the test split or the network rather than how good the model is, and the share of
the checks that pass, which has tables of its own. MLflow shows them in a table instead of a chart."""


class EvaluateConfig(Config):
    max_replies: int | None = Field(default=None, ge=1)
    """Score about this many test replies, in evenly spaced whole conversations; null scores all replies. The
    champion is scored on the same replies."""
    sample_replies: int = Field(default=200, ge=10)
    """Number of test contexts to which the model replies greedily, to compute metrics of whole replies."""
    shown_replies: int = Field(default=12, ge=1)
    """Number of greedy replies that the report shows."""
    checks: str = "auto"
    """A file of checks, in YAML or JSON: conversations with conditions for the reply, such as a word that it
    contains (docs/checks.md). A model that certainly fails a check that the champion passes is not promoted.
    `auto`: the built-in checks of the corpus `sample`, and none for another corpus; `none`: no checks."""


class CheckedConfig(EvaluateConfig):
    """The settings of the stage if there are checks."""

    cases: tuple[Case, ...]
    """The content of the file that `checks` names."""


class Sample(Record):
    """A context, the model's reply to it, and the original reply in the corpus."""

    context: list[str]
    reply: str
    said: str


class Report(Record):
    """report.json: the metrics of a model on the test split, with some of the model's replies."""

    metrics: dict[str, int | float]
    normalisation: str
    samples: list[Sample] = []

    def measures(self) -> dict[str, float]:
        """The metrics that measure how good the model is, by name without the prefix `test_`."""
        return {
            key.removeprefix("test_"): float(value) for key, value in self.metrics.items() if key not in FACTS
        }


def reply_counts(examples: Path) -> dict[int, int]:
    """The count of each token in the replies of a file with the schema EXAMPLES."""
    table = pq.read_table(examples, columns=["ids", "is_reply"])
    tokens = pc.filter(pc.list_flatten(table["ids"]), pc.list_flatten(table["is_reply"]))
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(tokens).to_pylist()}


def evaluate_model(out: Path, config: EvaluateConfig, train: Path, clean: Path, export: Path) -> int:
    """Write score.json, report.json, report.md and loss.png; return the number of scored replies."""
    from models.evaluation import metrics, plots
    from models.evaluation.collapse import ReplyStats
    from models.network import networks

    model, turns = train / "model", clean / "turns.parquet"
    normalisation = read_model_info(model).normalisation
    score = score_model(model, turns, config.max_replies)
    cases = sample_cases(turns, normalisation, config.sample_replies)
    replies = answer_cases(model, cases)
    checks = run_cases(model, config.cases if isinstance(config, CheckedConfig) else ())
    record = record_score(score, turns, normalisation, config.max_replies, replies, checks)
    record.write(out / SCORE)
    if problem := ReplyStats(**record.reply_figures).alarm():
        log.warning("evaluate: the replies to contexts of the test split have collapsed: %s", problem)
    figures = {
        "test_bpb": score.bpb,
        "test_perplexity": score.perplexity,
        "test_accuracy": score.accuracy,
        "test_majority_accuracy": metrics.majority_accuracy(
            reply_counts(export / "train.parquet"), reply_counts(export / "test.parquet")
        ),
        **record.reply_figures,
        **record.check_figures,
        "test_replies": score.replies,
        "test_replies_in_all": count_replies(turns),
        "test_bytes": score.bytes,
        "parameters": networks.load(model).num_parameters(),
    }
    samples = [
        Sample(context=context, reply=text, said=said)
        for (context, said, _), (text, *_) in zip(cases, replies, strict=True)
    ]
    report = Report(metrics=figures, normalisation=normalisation, samples=samples[: config.shown_replies])
    report.write(out / REPORT)
    (out / "report.md").write_text(to_markdown(report, checks))
    plots.loss_curves(train / "logs" / "metrics.jsonl", out / "loss.png")
    return score.replies


def to_markdown(report: Report, checks: Sequence[Result] = ()) -> str:
    """Return the report as Markdown for people to read."""
    replies = [
        {
            "context": " / ".join(row.context[-3:]),
            "reply (temperature 0)": row.reply,
            "what was said": row.said,
        }
        for row in report.samples
    ]
    text = f"## Test split\n\n{figure_table(report.metrics)}\n## Replies\n\n{markdown_table(replies)}"
    return f"{text}\n## Checks\n\n{markdown_table(check_rows(checks))}" if checks else text


def check_rows(checks: Sequence[Result]) -> list[dict[str, str]]:
    """A row for each check."""
    return [
        {
            "check": each.name,
            "passed": f"{each.passed} of {each.replies}",
            "reply (temperature 0)": each.reply,
            "not met": each.fault,
        }
        for each in checks
    ]
