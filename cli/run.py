"""Here: one run on this machine, now, with a Prefect server of its own if none is configured."""

import shlex
from pathlib import Path
from typing import Any

from deployments.local.recorded import run_recorded
from flows.config import RetrainConfig
from flows.lifecycle.context import open_lineage
from flows.lifecycle.dead_runs import reconcile_champion
from flows.lifecycle.graph import prepare_chain, retrain_chain, turns_chain
from flows.lifecycle.locks import dead_runs, holder
from flows.lifecycle.outcome import Outcome, stage_row
from flows.lifecycle.parameters import of_config
from flows.lifecycle.publish import skipped_outcome, unchanged_outcome
from flows.lifecycle.results import Result
from flows.prepare import prepare
from flows.retrain import retrain
from models.evaluation.scorecard import score_model
from models.registry.reference import open_registry
from models.text.encoding import read_dialogue
from settings import Settings
from tasks.plan import Link, Step, plan_chain, plan_run
from tasks.store.artifact import Artifact, check_writable


def retrain_here(config: RetrainConfig) -> Outcome:
    """The whole chain; where there is nothing to do, the answer comes without a server."""
    run = open_lineage(config)
    if busy := holder(run.home):  # told before anything is started; the flow looks again
        return skipped_outcome(run, busy)
    chain = retrain_chain(config)
    _, kept = plan_chain(chain, run.home)
    # What a dead run left open in Prefect's database is closed there, so that takes a server.
    if Settings().prefect_url is None and len(kept) == len(chain) and not dead_runs(run.home):
        reconcile_champion(run)
        plan = plan_run(chain, config.gate, run.home, run.registry, config.generation)
        if plan.nothing_to_do:
            return unchanged_outcome(run, plan)
    ended: Outcome | Result = run_recorded(run.home, retrain, of_config(config))
    outcome = ended.outcome if isinstance(ended, Result) else ended
    assert outcome is not None
    return outcome


def prepare_here(config: RetrainConfig) -> list[dict[str, Any]]:
    """The data half; each stage as the JSON of a run tells it."""
    home = open_lineage(config).home
    prepare_chain(config)  # a corpus that is not there is told before anything is started
    asked = ("recipe", "corpus", "changes")
    parameters = {key: value for key, value in of_config(config).items() if key in asked}
    ended: list[Artifact] | Result = run_recorded(home, prepare, parameters)
    artifacts = ended.artifacts if isinstance(ended, Result) else ended
    return [stage_row(artifact) for artifact in artifacts]


def plan_here(config: RetrainConfig) -> list[Step]:
    here = Settings()  # and no lineage, which makes the home: a look leaves nothing
    check_writable(here.root)
    chain, registry = retrain_chain(config), open_registry(here)
    return plan_run(chain, config.gate, here.root, registry, config.generation).steps


def make(chain: list[Link], home: Path) -> dict[str, Artifact]:
    """The stages' outputs by name, made or found, without a flow around them."""
    made: dict[str, Artifact] = {}
    for link in chain:
        inputs = {name: made[name] for name in link.inputs}
        made[link.stage.name] = link.stage.run(
            home, link.config, inputs, identity=link.identity, context=link.context
        )
    return made


def evaluate_here(folder: Path, config: RetrainConfig) -> dict[str, float]:
    """The figures of any model on the test split of a corpus, cleaned as the model's text was."""
    normalisation = read_dialogue(folder)["normalisation"]
    config = config.model_copy(
        update={"clean": config.clean.model_copy(update={"normalisation": normalisation})}
    )
    made = make(turns_chain(config), open_lineage(config).home)
    score = score_model(folder, made["clean"].path / "turns.parquet", config.evaluate.max_replies)
    return {
        "test_bpb": score.bpb,
        "test_perplexity": score.perplexity,
        "test_accuracy": score.accuracy,
        "test_replies": score.replies,
    }


def summary(outcome: Outcome) -> str:
    """The end of a run as a person reads it, with what to type next."""
    if outcome.outcome == "skipped":
        return f"\n{outcome.headline()}\n  {outcome.reason}; the same command goes on when it has ended"
    m = outcome.metrics
    serves = outcome.outcome in ("promoted", "unchanged")
    model = "" if serves else f" --model {shlex.quote(outcome.model_path)}"
    run = f"MLflow run {outcome.mlflow_run_id}" if outcome.mlflow_run_id else "no MLflow run yet"
    guess = f"always guessing the commonest token: {m['test_majority_accuracy']:.1%}"
    return f"""
{outcome.headline()}
  {outcome.reason}

  {m["test_bpb"]:.4f} bits per byte, perplexity {m["test_perplexity"]:.2f}
  accuracy {m["test_accuracy"]:.1%} ({guess})
  {m["parameters"]:,} parameters, {outcome.seconds:.0f} s, {run}

What now?
  repartee chat{model}
  repartee models
  {outcome.mlflow_url}"""


def stage_table(stages: list[dict[str, Any]]) -> str:
    lines = [f"  {'stage':<12}{'status':<8}{'seconds':>8}{'rows':>10}  why"]
    for row in stages:
        told = f"  {row['name']:<12}{row['status']:<8}{row['seconds']:>8.1f}{row['rows']:>10,}"
        lines.append(f"{told}  {row['why']}")
    return "\n".join(lines)


def plan_table(steps: list[Step]) -> str:
    return "\n".join(f"  {step.name:<12}{step.action:<7}{step.why}" for step in steps)
