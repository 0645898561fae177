"""Run: run flows on this machine. If no Prefect server is configured or running, a run starts one."""

from typing import Any

from deployments.local.recorded import run_recorded
from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run, open_run
from flows.lifecycle.dead_runs import reconcile_champion
from flows.lifecycle.graph import run_chain
from flows.lifecycle.locks import dead_runs, line_holder, my_turn
from flows.lifecycle.outcome import Outcome, stage_row
from flows.lifecycle.parameters import as_trained, of_config
from flows.lifecycle.publish import skipped_outcome, unchanged_outcome
from flows.lifecycle.results import Result
from flows.prepare import DATA, prepare
from flows.reevaluate import score
from flows.retrain import CHAIN, retrain
from models.errors import InputError
from models.evaluation.noise import Noise
from models.pretrained.source import TRUNK
from models.registry.reference import Model
from settings import Settings
from tasks.gate import rescore
from tasks.noise.measurement import measure_noise
from tasks.plan import PlannedStage, plan_chain, plan_run
from tasks.store.artifact import Artifact, check_writable
from tasks.train import train

PREPARE_PARAMETERS = ("recipe", "corpus", "settings")


def retrain_locally(config: RetrainConfig) -> Outcome:
    """Run all stages. If there is nothing to do, return without starting a Prefect server.

    Raises:
        InputError: the home, the corpus, a setting or a configured server cannot be used.
        KeyboardInterrupt: the run was interrupted or cancelled.
    """
    settings = Settings()
    run = open_run(config, settings)
    # The lock of the model line is checked before the flow starts, so that no server is started for a run
    # that is skipped. The flow checks the lock again.
    if busy := line_holder(run.home, run.registry.model):
        return skipped_outcome(run, busy)
    stages, outputs = plan_chain(run, CHAIN)
    # If a crash has left runs open in Prefect's database, a server is needed to close them.
    if settings.prefect_url is None and len(outputs) == len(stages) and not dead_runs(run.home):
        reconcile_champion(run)
        plan = plan_run(run, CHAIN)
        if plan.nothing_to_do:
            return unchanged_outcome(run, plan)
    returned: Outcome | Result = run_recorded(settings, retrain, of_config(config))
    outcome = returned.outcome if isinstance(returned, Result) else returned
    assert outcome is not None
    return outcome


def prepare_locally(config: RetrainConfig) -> list[dict[str, Any]]:
    """Run the data stages, and return a row for each stage, as in the JSON output of a run.

    Raises:
        InputError: the home, the corpus, a setting or a configured server cannot be used.
        KeyboardInterrupt: the run was interrupted or cancelled.
    """
    settings = Settings()
    run = open_run(config, settings)
    plan_chain(run, DATA)  # so that a missing corpus is reported before a server is started
    parameters = {key: value for key, value in of_config(config).items() if key in PREPARE_PARAMETERS}
    returned: list[Artifact] | Result = run_recorded(settings, prepare, parameters)
    artifacts = returned.artifacts if isinstance(returned, Result) else returned
    return [stage_row(artifact) for artifact in artifacts]


def plan_stages(config: RetrainConfig) -> list[PlannedStage]:
    """What a run would do with each stage, and why; nothing is written.

    Raises:
        InputError: the home, the corpus or a setting cannot be used.
    """
    settings = Settings()
    check_writable(settings.root)
    return plan_run(describe_run(config, settings), CHAIN).stages


def measure_noise_locally(config: RetrainConfig) -> Noise:
    """Measure how much the score of a configuration depends on the seed. No server is started.

    Raises:
        InputError: the home, the corpus or a setting cannot be used.
    """
    if config.start.init == TRUNK:
        raise InputError(
            "--init trunk: the noise between seeds is that of models without a trunk; give scratch"
        )
    settings = Settings()
    run = open_run(config, settings)
    with my_turn(run.home, f"noise of {run.name}", waits=True):
        return measure_noise(run, run_chain(run, DATA, in_flow=False), train=train, rescore=rescore)


def score_model(model: Model, config: RetrainConfig) -> dict[str, float]:
    """Score a model on the test split of a corpus. The text is normalised as the model's training text was.

    Raises:
        InputError: the folder does not contain a model trained by Repartee, or the corpus cannot be used.
    """
    return score(open_run(as_trained(config, model.folder), Settings()), model, in_flow=False)
