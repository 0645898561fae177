"""The page of a run in MLflow: its metrics, datasets, tables and verdict."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from models.data.overview import DataOverview, overview, reject_rows, sample_rows, split_rows
from models.data.schemas import EXAMPLES, SPLITS
from models.evaluation.report import FACTS, REPORT, Report, check_rows
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.evaluation.verdict import Verdict
from models.files import sha256
from models.registry.metrics_forwarder import MetricsForwarder
from models.registry.runs import Point
from models.registry.tables import Rows
from models.registry.tags import CORPUS, JUDGED, REASON, VERDICT
from models.registry.versions import Registry
from models.training.launch import SUMMARY, Summary
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext

SPLIT_TABLE, REJECT_TABLE, CONVERSATION_TABLE = (
    "data/splits.json",
    "data/rejects.json",
    "data/conversations.json",
)
HASHES = "hashes.json"
FACT_TABLE, GROUP_TABLE, REPLY_TABLE = "report/facts.json", "report/groups.json", "report/replies.json"
CHECK_TABLE = "report/checks.json"


@dataclass(frozen=True)
class Outputs:
    """The stage outputs that the page shows."""

    train: Artifact
    evaluate: Artifact
    parse: Artifact
    clean: Artifact
    export: Artifact

    @cached_property
    def data(self) -> DataOverview:
        """The counts and samples of the data, which are read from the files only once."""
        return overview(self.parse.path, self.clean.path, self.export.path)


def record_training(run: RunContext, run_id: str, outputs: Outputs) -> None:
    """Write curves, datasets, tables and report to the MLflow run; a second call changes nothing."""
    registry, train, evaluate = run.registry, outputs.train, outputs.evaluate
    report = Report.read(evaluate.path / REPORT)
    with MetricsForwarder(registry, run_id, train.path / "logs" / "metrics.jsonl"):
        pass  # sends the metrics that could not be sent during training
    registry.log_metrics(run_id, score_metrics(report))
    registry.log_tags(
        run_id, {f"repartee.{key}": value for key, value in machine_choices(train.path).items()}
    )
    log_datasets(registry, run_id, outputs.export, run.tags[CORPUS])
    registry.log_text(run_id, hashes_of(outputs, run.tags[CORPUS]), HASHES)
    registry.log_artifacts(run_id, evaluate.path, "report")
    registry.log_artifacts(run_id, train.path / "logs", "training")
    score = ScoreRecord.read(evaluate.path / SCORE)
    registry.log_tables(
        run_id, data_tables(outputs.data) | result_tables(report, score, summary_of(train.path))
    )


def hashes_of(outputs: Outputs, corpus: str) -> str:
    """The fingerprint and the digest of each stage's output, and the digests of the datasets, as JSON."""
    stages = {
        output.stage: {"fingerprint": output.fingerprint, "digest": output.digest}
        for output in (outputs.parse, outputs.clean, outputs.export, outputs.train, outputs.evaluate)
    }
    datasets = dict(dataset_of(outputs.export, corpus, split) for split in SPLITS)
    return json.dumps({"stages": stages, "datasets": datasets}, indent=2) + "\n"


def summary_of(training: Path) -> Summary:
    return Summary.read(training / "logs" / SUMMARY)


def machine_choices(training: Path) -> dict[str, str]:
    return summary_of(training).choices()


def score_metrics(report: Report) -> list[Point]:
    """The scores on the test split as metrics of the run."""
    return [(f"test/{name}", value, 0, 0) for name, value in report.measures().items()]


def data_tables(data: DataOverview) -> dict[str, Rows]:
    """The data of the run as text: counts of the splits and of rejected lines, and ten conversations."""
    return {
        SPLIT_TABLE: split_rows(data),
        REJECT_TABLE: reject_rows(data),
        CONVERSATION_TABLE: sample_rows(data),
    }


def result_tables(report: Report, score: ScoreRecord, summary: Summary) -> dict[str, Rows]:
    """Facts that are not logged as metrics, the scores of the groups, sample replies, and checks."""
    return {
        FACT_TABLE: [{"fact": key, "value": value} for key, value in _facts(report, summary)],
        GROUP_TABLE: group_rows(score),
        REPLY_TABLE: [
            {"context": "\n".join(row.context), "reply": row.reply, "in the corpus": row.said}
            for row in report.samples
        ],
        CHECK_TABLE: check_rows(score.checks),
    }


def group_rows(score: ScoreRecord) -> list[dict[str, Any]]:
    """A row for each group of the test split, in descending order of bits per byte."""
    rows = [
        {"group": name, "bits per byte": nats / math.log(2) / size_bytes, "bytes": int(size_bytes)}
        for name, (nats, size_bytes) in score.groups.items()
    ]
    return sorted(rows, key=lambda row: -row["bits per byte"])


def _facts(report: Report, summary: Summary) -> Iterator[tuple[str, Any]]:
    """The facts about the test split and the network, then those about the training run."""
    yield from ((key, report.metrics[key]) for key in FACTS if key in report.metrics)
    yield from ((f"train_{key}", value) for key, value in summary.model_dump().items() if key != "parameters")


def write_verdict(registry: Registry, run_id: str, verdict: Verdict, flow_run_id: str | None) -> None:
    """Write the verdict to the tags of the run; the tags of earlier verdicts are kept."""
    outcome = "promoted" if verdict.promote else "refused"
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    where = f" in {flow_run_id}" if flow_run_id else ""
    entry = {f"{JUDGED}{at}": f"{outcome}{where}: {verdict.reason}"}
    registry.log_tags(run_id, {VERDICT: outcome, REASON: verdict.reason, **entry})


def log_datasets(registry: Registry, run_id: str, export: Artifact, corpus: str) -> None:
    """Log the three splits, with their digests and row counts, as inputs of the MLflow run."""
    columns = {field.name: str(field.type) for field in EXAMPLES}
    for split in SPLITS:
        path = export.path / f"{split}.parquet"
        name, digest = dataset_of(export, corpus, split)
        registry.log_dataset(
            run_id,
            name,
            digest=digest,
            source=str(path),
            profile={"examples": pq.ParquetFile(path).metadata.num_rows},
            context=split,
            columns=columns,
        )


def dataset_of(export: Artifact, corpus: str, split: str) -> tuple[str, str]:
    """The name and the digest under which MLflow records a split."""
    return f"{corpus}-{split}", sha256(export.path / f"{split}.parquet")
