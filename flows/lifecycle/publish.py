"""Publish: return the outcome of a run to the caller, and show it in Prefect.

The final state has one of Prefect's own state names, because Prefect's pages can filter only by these names.
The outcome is in the message of the state, in a tag of the run and in the name of the run.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import Cancelled, Completed, Failed

from flows.config import RetrainConfig
from flows.lifecycle.artifacts import publish_artifacts
from flows.lifecycle.events import send_promotion
from flows.lifecycle.locks import bury
from flows.lifecycle.names import SCHEDULE_TAG
from flows.lifecycle.outcome import Ending, Outcome, stage_row, without_outcome
from flows.lifecycle.results import Result, forget_result, save_result
from flows.recipes import promote_anyway, run_command
from models.errors import InputError
from models.evaluation.figures import figure_table
from models.evaluation.report import REPORT, Report
from models.evaluation.scorecard import ScoreRecord
from models.registry.reference import Model
from models.registry.tags import CORPUS, RECIPE, SCHEDULE
from settings import Settings
from tasks.plan import Plan
from tasks.prefect_api.reporting import report
from tasks.register import Registration
from tasks.run_page.contents import summary_of
from tasks.run_page.training import steps_of_version, training_text
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext


def unchanged_outcome(run: RunContext, plan: Plan) -> Outcome:
    """The outcome of a run that has nothing to do: the champion stays, for the reason that the plan gives."""
    champion = plan.champion
    assert champion is not None  # without a champion, the plan says that the gate runs
    return Outcome(
        outcome="unchanged",
        reason=plan.reason,
        model=run.registry.model,
        version=champion.number,
        mlflow_run_id=champion.run_id,
        flow_run_id=run.flow_run_id,
        seconds=round(time.monotonic() - run.started_s, 3),
        stages=[stage_row(artifact) for artifact in plan.outputs.values()],
        metrics=_metrics(plan.outputs["evaluate"]),
        model_path=str(plan.outputs["train"].path / "model"),
        mlflow_url=run.registry.run_url(champion.run_id),
        training=training_text(summary_of(plan.outputs["train"].path), run.params),
    )


def unchanged(run: RunContext, plan: Plan) -> State[Outcome]:
    return completed(run, unchanged_outcome(run, plan), plan.outputs)


def skipped_outcome(run: RunContext, holder: str) -> Outcome:
    """The outcome of a run that does not start because another run of its model line is in progress."""
    return Outcome(
        outcome="skipped",
        reason=f"the other run, in {run.home}, is {holder}",
        model=run.registry.model,
        version=None,
        mlflow_run_id=None,
        flow_run_id=run.flow_run_id,
        seconds=round(time.monotonic() - run.started_s, 3),
        stages=[],
    )


def skipped(run: RunContext, holder: str) -> State[Outcome]:
    return completed(run, skipped_outcome(run, holder))


def publish_scores(model: Model, corpus: str, figures: dict[str, float]) -> dict[str, float]:
    head = f"v{model.version} on the test split of {corpus}"
    report(create_markdown_artifact, figure_table(figures), key="evaluation", description=head)
    return figures


def conclude(
    run: RunContext, outputs: Iterable[Artifact | State[Artifact]], registered: Registration
) -> State[Outcome]:
    verdict, champion = registered.verdict, registered.verdict.champion_score
    artifacts = [artifact_of(output) for output in outputs]
    if verdict.promote and registered.version:
        send_promotion(run, registered.version, verdict.reason)
    return completed(
        run,
        replace(
            _trained(run, artifacts),
            outcome="promoted" if verdict.promote else "refused",
            reason=verdict.reason,
            version=registered.champion,
            mlflow_run_id=registered.run_id,
            mlflow_url=run.registry.run_url(registered.run_id),
            champion_metrics=champion.figures() if champion else {},
            champion=verdict.champion,
            champion_steps=steps_of_version(run.registry, verdict.champion),
            promote_command="" if verdict.promote or verdict.is_taken_out else promote_anyway(run.command),
        ),
        _by_stage(artifacts),
        champion,
    )


def trained_not_registered(
    run: RunContext, outputs: Iterable[Artifact | State[Artifact]], config: RetrainConfig, outage: str
) -> State[Outcome]:
    """The final state of a run whose model could not be registered. The next run registers that model."""
    finish = f"the trained model is kept, and this command registers it: {run_command(config)}"
    artifacts = [artifact_of(output) for output in outputs]
    outcome = replace(_trained(run, artifacts), reason=f"{outage}; {finish}")
    return completed(run, outcome, _by_stage(artifacts))


def _by_stage(artifacts: Iterable[Artifact]) -> dict[str, Artifact]:
    return {artifact.stage: artifact for artifact in artifacts}


def _trained(run: RunContext, artifacts: Sequence[Artifact]) -> Outcome:
    """What is known of the outcome once the model has been trained and evaluated."""
    by_name = _by_stage(artifacts)
    return Outcome(
        outcome="trained_not_registered",
        reason="",
        model=run.registry.model,
        version=None,
        mlflow_run_id=None,
        flow_run_id=run.flow_run_id,
        seconds=round(time.monotonic() - run.started_s, 3),
        stages=[stage_row(artifact) for artifact in artifacts],
        metrics=_metrics(by_name["evaluate"]),
        model_path=str(by_name["train"].path / "model"),
        training=training_text(summary_of(by_name["train"].path), run.params),
    )


def artifact_of(output: Artifact | State[Artifact]) -> Artifact:
    """The artifact that a task has returned. The task of a reused stage returns it wrapped in a state."""
    return output.result() if isinstance(output, State) else output


def refused(error: InputError) -> State[Any]:
    """The state of a run that could not start, with the text of the error as its message."""
    return Failed(message=str(error), data=error)


def interrupted() -> State[Any]:
    """The state of a run that a user stopped with Ctrl-C, which does not count as a crash."""
    return Cancelled(message="interrupted; run the same command again to continue")


def out_of_time(config: RetrainConfig) -> State[Any]:
    """The state of a run that has reached its time limit."""
    hours = f"{config.max_hours:g} hours" if config.max_hours != 1 else "1 hour"
    return refused(
        InputError(
            f"stopped after {hours}, the limit `max_hours` of this run; to continue, run it again: "
            f"{run_command(config)}"
        )
    )


def end_is_recorded(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """The last hook of a flow: Prefect has recorded the run's end, so a later process need not record it."""
    home = Settings().root
    forget_result(home, str(flow_run.id))
    bury(home, str(flow_run.id))


def completed(
    run: RunContext,
    outcome: Outcome,
    outputs: Mapping[str, Artifact] | None = None,
    champion: ScoreRecord | None = None,
) -> State[Outcome]:
    """The final state of a run. The outcome is saved to disk before Prefect is asked to record it."""
    save_result(run.home, run.flow_run_id, Result(outcome))
    report(publish_artifacts, outcome, outputs or {}, champion)
    report(_update_run, lambda client, flow_run: label(client, flow_run, outcome))
    return final_state(outcome)


def final_state(outcome: Outcome) -> State[Outcome]:
    return Completed(message=f"{outcome.headline()}; {outcome.reason}", data=outcome)


def tag_run(run: RunContext) -> None:
    """Tag the run with its recipe, corpus, model line and schedule, so that users can find it in Prefect."""
    tags = {run.tags[RECIPE], run.tags[CORPUS], run.registry.model}
    if schedule := run.tags.get(SCHEDULE):
        tags.add(f"{SCHEDULE_TAG}{schedule}")
    report(_update_run, lambda client, flow_run: _add_tags(client, flow_run, tags))


def _add_tags(client: SyncPrefectClient, flow_run: FlowRun, tags: set[str]) -> None:
    client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags}))


def _update_run(update: Callable[[SyncPrefectClient, FlowRun], None]) -> None:
    """Update the current flow run, if there is one."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        with get_client(sync_client=True) as client:
            update(client, client.read_flow_run(context.flow_run.id))


def label(client: SyncPrefectClient, flow_run: FlowRun, outcome: Outcome) -> None:
    """Put the outcome into the tags and the name of a run, in place of the outcome of an earlier attempt."""
    tags = {*flow_run.tags} - {*get_args(Ending)} | {outcome.outcome}
    if outcome.outcome == "promoted":
        tags.add(f"v{outcome.version}")
    name = f"{without_outcome(flow_run.name)}: {outcome.short()}"
    client.update_flow_run(flow_run.id, name=name, tags=sorted(tags))


def _metrics(evaluate: Artifact) -> dict[str, float]:
    return dict(Report.read(evaluate.path / REPORT).metrics)
