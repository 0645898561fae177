"""`repartee reproduce`: train a version again from the same inputs, and compare the weights bit by bit."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cli.versions import run_tags
from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run, git_commit
from flows.lifecycle.locks import my_turn
from flows.notation import split_settings
from flows.retrain import CHAIN
from models.errors import InputError
from models.registry.reference import in_line, open_registry
from models.registry.tags import CHANGES, COMMIT, FINGERPRINT, RECIPE
from settings import Settings
from tasks.provenance.origin import TRAIN, origin_of
from tasks.provenance.reproduction import NotReproducible, Reproduction, reproduce
from tasks.store.artifact import check_home

STAGES = CHAIN[: [stage.name for stage in CHAIN].index(TRAIN) + 1]


def reproduce_version(ref: str, line: str | None) -> dict[str, Any]:
    """Train a version again, and say whether the weights are equal or which stage is the first that differs.

    The registry is only read, and no run is created in Prefect or MLflow.

    Raises:
        InputError: there is no such version, or its inputs are not there any more.
        TrackingUnavailable: MLflow does not answer.
    """
    settings, started_s = Settings(), time.monotonic()
    registry, number_or_alias = in_line(ref, open_registry(settings, line))
    version = registry.find(number_or_alias)
    name = f"{registry.model} v{version.number}"
    tags = run_tags(registry, version)
    check_home(settings.root)
    run = replace(describe_run(RetrainConfig(), settings), registry=registry)
    try:
        with my_turn(settings.root, f"reproduce {name}", waits=True):
            origin = origin_of(settings.root, version.tags.get(FINGERPRINT, ""))
            if origin is None:
                raise NotReproducible(f"the record of its training is not in {settings.root / 'store'}")
            found = reproduce(run, origin, version.digest, STAGES)
    except NotReproducible as error:
        raise InputError(f"{name} cannot be reproduced: {error}{_remedy(tags)}") from None
    return {
        "line": registry.model,
        "version": version.number,
        **_result(found),
        "commit": {"then": tags.get(COMMIT, ""), "now": git_commit()},
        "seconds": round(time.monotonic() - started_s, 3),
    }


def _result(found: Reproduction) -> dict[str, Any]:
    differing = None if found.is_equal else found.differing
    return {
        "outcome": "equal" if found.is_equal else "differs",
        "stage": differing and differing.name,
        "changes": differing.changes if differing else [],
        "weights": found.weights,
        "stages": [asdict(stage) for stage in found.stages],
    }


def _remedy(tags: Mapping[str, str]) -> str:
    if RECIPE not in tags:
        return ""
    words = ["repartee", "run", "--recipe", tags[RECIPE]]
    for change in split_settings(tags.get(CHANGES, "")):
        words += ["--set", change]
    return f"; `{shlex.join(words)}` trains a model with the same settings on what the corpus contains now"
