"""Artifacts: tables and texts on the page of a run in Prefect's dashboard.

    LINE-summary    the verdict, the scores of the model and the champion, the curves, the stages, links
    LINE-contract   how the data differ from those accepted before (tasks/contract.py)
    LINE-data       counts, rejected lines, lengths, ten conversations
    LINE-replies    replies of this model, and of the champion with which it was compared

LINE is the name of the registered model, reduced to the characters that are valid in the key of a Prefect
artifact. The name is part of the key because all flows on a Prefect server share one set of keys.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact

from flows.lifecycle.outcome import Outcome
from models.data.overview import overview, to_markdown
from models.evaluation.report import REPORT, Report, check_rows
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.markdown import markdown_table
from tasks.prefect_api.reporting import key_prefix
from tasks.store.artifact import Artifact

MAX_PICTURE_BYTES = 200_000
DATA_STAGES = ("parse", "clean", "export")


def publish_artifacts(
    outcome: Outcome, outputs: Mapping[str, Artifact], champion: ScoreRecord | None = None
) -> None:
    """Create the artifacts of a run, except those for which the output of a stage is missing.

    Args:
        outputs: the outputs of the stages by name; empty if the run was skipped.
        champion: the score of the champion with which the model was compared.
    """
    prefix = key_prefix(outcome.model)
    evaluated = outputs.get("evaluate")
    summary = outcome.to_markdown() + (_curves(evaluated.path) if evaluated else "")
    create_markdown_artifact(summary, key=f"{prefix}-summary", description=outcome.headline())
    if all(name in outputs for name in DATA_STAGES):
        data = overview(*(outputs[name].path for name in DATA_STAGES))
        create_markdown_artifact(
            to_markdown(data), key=f"{prefix}-data", description="The prepared data of this run"
        )
    if evaluated:
        create_markdown_artifact(
            _replies(evaluated.path, champion, f"champion v{outcome.champion}"),
            key=f"{prefix}-replies",
            description="Replies of this model at temperature 0",
        )
    if outcome.mlflow_url.startswith("http"):
        create_link_artifact(
            outcome.mlflow_url,
            link_text="The run in MLflow",
            key=f"{prefix}-mlflow",
            description="Parameters, curves, datasets and the model",
        )


def _curves(evaluated: Path) -> str:
    """The plot of loss and accuracy, embedded in the text because an artifact cannot contain files."""
    picture = evaluated / "loss.png"
    if not picture.exists() or picture.stat().st_size > MAX_PICTURE_BYTES:
        return ""
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"\n## Loss and accuracy\n\n![Loss and accuracy of the training](data:image/png;base64,{data})\n"


def _replies(evaluated: Path, champion: ScoreRecord | None, title: str) -> str:
    score, report = ScoreRecord.read(evaluated / SCORE), Report.read(evaluated / REPORT)
    others = champion.openers if champion else {}
    openers = [
        {"prompt": prompt, "this model": reply} | ({title: others.get(prompt, "")} if others else {})
        for prompt, reply in score.openers.items()
    ]
    from_test = [
        {"context": "\n".join(row.context[-3:]), "this model": row.reply, "in the corpus": row.said}
        for row in report.samples
        if row.said
    ]
    return (
        f"## Fixed prompts\n\n{markdown_table(openers)}\n{_checks(score, champion, title)}"
        f"## Contexts of the test split\n\n{markdown_table(from_test)}"
    )


def _checks(score: ScoreRecord, champion: ScoreRecord | None, title: str) -> str:
    """The results of the checks, beside those of the champion if it was scored on them; "" without checks."""
    others = {each.name: each for each in champion.checks} if champion else {}
    rows = check_rows(score.checks)
    for row in rows if others else []:
        other = others[row["check"]]
        row |= {f"{title} passed": f"{other.passed} of {other.replies}", f"{title}: reply": other.reply}
    return f"## Checks\n\n{markdown_table(rows)}\n" if rows else ""
