"""Ending: what a run came to, told to the caller, to the dashboard and in the state's name."""

import json
import time
from collections.abc import Sequence

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.config import RetrainConfig
from flows.events import tell_promotion
from flows.lineage import Lineage, corpus_name
from flows.outcome import Outcome, stage_row
from models.registry import Version
from tasks.artifacts import Artifact
from tasks.evaluate import figure_table
from tasks.gate import Verdict
from tasks.plan import Plan
from tasks.register import Registration

NAMES = {"promoted": "Promoted", "refused": "ChampionKept", "unchanged": "Unchanged", "skipped": "Skipped"}


def unchanged_outcome(run: Lineage, plan: Plan) -> Outcome:
    """Nothing to do: the champion stays, and the plan says why."""
    champion = plan.champion
    assert champion is not None  # without one the gate has something to do
    return Outcome(
        outcome="unchanged",
        reason=plan.steps[-1].why,
        model=run.registry.model,
        version=champion.number,
        mlflow_run_id=champion.run_id,
        flow_run_id=run.flow_run_id,
        seconds=round(time.monotonic() - run.started_s, 3),
        stages=[stage_row(artifact) for artifact in plan.kept.values()],
        metrics=_metrics(plan.kept["evaluate"]),
        model_path=str(plan.kept["train"].path / "model"),
        mlflow_url=run.registry.run_url(champion.run_id),
    )


def unchanged(run: Lineage, plan: Plan) -> State[Outcome]:
    return _told(unchanged_outcome(run, plan))


def skipped_outcome(run: Lineage, holder: str) -> Outcome:
    """Another training has its turn."""
    return Outcome(
        outcome="skipped",
        reason=f"{holder} is at work in {run.home}",
        model=run.registry.model,
        version=None,
        mlflow_run_id=None,
        flow_run_id=run.flow_run_id,
        seconds=round(time.monotonic() - run.started_s, 3),
        stages=[],
    )


def skipped(run: Lineage, holder: str) -> State[Outcome]:
    return _told(skipped_outcome(run, holder))


def tell_scores(version: Version, config: RetrainConfig, figures: dict[str, float]) -> dict[str, float]:
    head = f"# v{version.number} on the test split of {corpus_name(config)}"
    text = f"{head}\n\n{figure_table(figures)}"
    create_markdown_artifact(text, key="evaluation", description=head.removeprefix("# "))
    return figures


def conclude(
    run: Lineage, made: Sequence[Artifact | State[Artifact]], verdict: Verdict, registered: Registration
) -> State[Outcome]:
    artifacts = [plain(artifact) for artifact in made]
    if verdict.promote and registered.version:
        tell_promotion(run, registered.version, verdict.reason)
    by_name = {artifact.stage: artifact for artifact in artifacts}
    return _told(
        Outcome(
            outcome="promoted" if verdict.promote else "refused",
            reason=verdict.reason,
            model=run.registry.model,
            version=registered.champion,
            mlflow_run_id=registered.run_id,
            flow_run_id=run.flow_run_id,
            seconds=round(time.monotonic() - run.started_s, 3),
            stages=[stage_row(artifact) for artifact in artifacts],
            metrics=_metrics(by_name["evaluate"]),
            model_path=str(by_name["train"].path / "model"),
            mlflow_url=run.registry.run_url(registered.run_id),
        )
    )


def plain(made: Artifact | State[Artifact]) -> Artifact:
    """The artifact itself: a stage that was reused returns it in a state of that name."""
    return made.result() if isinstance(made, State) else made


def _told(outcome: Outcome) -> State[Outcome]:
    create_markdown_artifact(outcome.to_markdown(), key="retrain-summary", description=outcome.headline())
    if outcome.mlflow_url.startswith("http"):
        create_link_artifact(
            outcome.mlflow_url,
            link_text="the run in MLflow",
            key="mlflow-run",
            description="parameters, curves, datasets and the report",
        )
    return Completed(name=NAMES[outcome.outcome], message=outcome.reason, data=outcome)


def _metrics(evaluate: Artifact) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((evaluate.path / "report.json").read_text())["metrics"]
    return metrics
