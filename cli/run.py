"""Run: the flows on this machine, with a Prefect server of their own if none is configured or up."""

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

PREPARE_PARAMETERS = ("recipe", "corpus", "changes")


def retrain_locally(config: RetrainConfig) -> Outcome:
    """Run all stages; if nothing is to be done, the outcome is found without a Prefect server.

    Raises:
        InputError: the home, the corpus, a setting or a configured server cannot be used.
        KeyboardInterrupt: the run was interrupted or cancelled.
    """
    run = open_lineage(config)
    if busy := holder(run.home):  # before a server is started for it; the flow checks again
        return skipped_outcome(run, busy)
    chain = retrain_chain(config)
    _, reusable = plan_chain(chain, run.home)
    # Runs that a crash has left open in Prefect's database are closed there, which takes a server.
    if Settings().prefect_url is None and len(reusable) == len(chain) and not dead_runs(run.home):
        reconcile_champion(run)
        plan = plan_run(chain, config.gate, run.home, run.registry, config.generation)
        if plan.nothing_to_do:
            return unchanged_outcome(run, plan)
    returned: Outcome | Result = run_recorded(run.home, retrain, of_config(config))
    outcome = returned.outcome if isinstance(returned, Result) else returned
    assert outcome is not None
    return outcome


def prepare_locally(config: RetrainConfig) -> list[dict[str, Any]]:
    """Run the data stages; each is a row as in the JSON of a run.

    Raises:
        InputError: the home, the corpus, a setting or a configured server cannot be used.
        KeyboardInterrupt: the run was interrupted or cancelled.
    """
    home = open_lineage(config).home
    prepare_chain(config)  # a missing corpus is an error before a server is started
    parameters = {key: value for key, value in of_config(config).items() if key in PREPARE_PARAMETERS}
    returned: list[Artifact] | Result = run_recorded(home, prepare, parameters)
    artifacts = returned.artifacts if isinstance(returned, Result) else returned
    return [stage_row(artifact) for artifact in artifacts]


def plan_stages(config: RetrainConfig) -> list[Step]:
    """What a run would do with each stage, and why; nothing is written.

    Raises:
        InputError: the home, the corpus or a setting cannot be used.
    """
    settings = Settings()  # no lineage is opened, because that would create the home
    check_writable(settings.root)
    chain, registry = retrain_chain(config), open_registry(settings)
    return plan_run(chain, config.gate, settings.root, registry, config.generation).steps


def run_stages(chain: list[Link], home: Path) -> dict[str, Artifact]:
    """Run these stages, or reuse their outputs, without a flow around them; the outputs by stage name."""
    artifacts: dict[str, Artifact] = {}
    for link in chain:
        inputs = {name: artifacts[name] for name in link.inputs}
        artifacts[link.stage.name] = link.stage.run(
            home, link.config, inputs, identity=link.identity, context=link.context
        )
    return artifacts


def evaluate_model(folder: Path, config: RetrainConfig) -> dict[str, float]:
    """Score a model folder on the test split of a corpus, normalised as the model's training text was.

    Raises:
        InputError: the folder is no model of ours, or the corpus cannot be used.
    """
    normalisation = read_dialogue(folder)["normalisation"]
    config = config.model_copy(
        update={"clean": config.clean.model_copy(update={"normalisation": normalisation})}
    )
    artifacts = run_stages(turns_chain(config), open_lineage(config).home)
    score = score_model(folder, artifacts["clean"].path / "turns.parquet", config.evaluate.max_replies)
    return {
        "test_bpb": score.bpb,
        "test_perplexity": score.perplexity,
        "test_accuracy": score.accuracy,
        "test_replies": score.replies,
    }
