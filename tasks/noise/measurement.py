"""Measures how much the score of a recipe depends on the seed, with several short training runs.

The runs take place in noise/KEY, a folder of the home with a store and a run folder of its own, so an
interrupted measurement is continued by the next one. Nothing is recorded in MLflow or registered.
"""

import logging
import math
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from models.config import Config
from models.errors import InputError
from models.evaluation.noise import Machine, Noise, append_noise
from models.evaluation.scorecard import SCORE, RescoreConfig, ScoreRecord
from models.registry.reference import Model
from models.training.config import TrainConfig
from models.training.launch import PRECISION, TrainingConfig
from tasks.gate import machine_of, model_artifact, noise_key
from tasks.prefect_api.training_progress import TrainingProgress
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import Stage, digests_of

log = logging.getLogger(__name__)

FOLDER = "noise"
SEEDS = 8
SHARE = 0.1
"""The part of the budget for which each model is trained."""


def measure_noise(run: RunContext, data: Mapping[str, Artifact], *, train: Stage, rescore: Stage) -> Noise:
    """Train SEEDS models that differ only in the seed, score them, and append the result to the home's list.

    Args:
        data: the outputs of the data stages.
        rescore: the stage that scores a registered model; the short trainings are scored in the same way.

    Raises:
        InputError: the machine has changed during the measurement, or a stage cannot use its input.
    """
    key = noise_key(run)
    folder = run.home / FOLDER / key
    scores: list[float] = []
    machines: list[Machine] = []
    for number in range(1, SEEDS + 1):
        log.info("noise: training %d of %d, with a tenth of the budget", number, SEEDS)
        config = short(run.settings["train"], number)
        trained = _train(folder, train, config, data, first=folder / PRECISION)
        machines.append(machine_of(trained))
        scores.append(_score(folder, run, trained, data["clean"], rescore))
    if len(set(machines)) > 1:
        kinds = "; ".join(sorted({each.text() for each in machines}))
        raise InputError(
            f"the models were trained on different kinds of machines ({kinds}), so their scores do not show "
            f"the noise of one; remove {folder}, and run the same command again on one machine"
        )
    noise = Noise(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        key=key,
        recipe=str(run.params["recipe"]),
        corpus=str(run.params["download.corpus"]),
        machine=machines[0],
        share=SHARE,
        bpb=scores,
    )
    append_noise(run.home, noise)
    shutil.rmtree(folder, ignore_errors=True)
    return noise


def short(config: Config, number: int) -> TrainingConfig:
    """The settings of a training with a part of the budget and with another seed; each limit is shortened."""
    assert isinstance(config, TrainingConfig)
    train = config.train
    limits = {
        "max_minutes": train.max_minutes and SHARE * train.max_minutes,
        "max_steps": train.max_steps and math.ceil(SHARE * train.max_steps),
        "max_epochs": SHARE * train.max_epochs,
        "seed": train.seed + number,
    }
    return config.model_copy(update={"train": TrainConfig(**{**train.model_dump(), **limits})})


def _train(
    home: Path, stage: Stage, config: TrainingConfig, data: Mapping[str, Artifact], *, first: Path
) -> Artifact:
    """A trained model. All runs have the precision that the first one has chosen and stored in `first`."""
    names = [*stage.reads, *(name for name in stage.may_read(config) if name in data)]
    inputs = {name: data[name] for name in names}
    work = home / "runs" / stage.fingerprint(config, digests_of(inputs))
    if first.exists() and not (work / PRECISION).exists():
        work.mkdir(parents=True, exist_ok=True)
        shutil.copy(first, work / PRECISION)
    trained = stage.run(home, config, inputs, context={"watch": TrainingProgress()})
    if not first.exists():
        partial = first.with_suffix(".tmp")
        shutil.copy(trained.path / "logs" / PRECISION, partial)
        partial.replace(first)
    return trained


def _score(home: Path, run: RunContext, trained: Artifact, clean: Artifact, rescore: Stage) -> float:
    """The bits per byte on the test split. No replies are needed, so only one is generated."""
    settings = rescore.config(run)
    assert isinstance(settings, RescoreConfig)
    model = model_artifact(Model(trained.path / "model", None, trained.fingerprint))
    config = settings.model_copy(update={"sample_replies": 1})
    scored = rescore.run(home, config, {"champion": model, "clean": clean})
    return ScoreRecord.read(scored.path / SCORE).bpb
