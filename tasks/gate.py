"""Gate: the stage that scores the champion again, and the verdict about a new model."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from prefect import task
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from models.errors import TrackingUnavailable
from models.evaluation.scorecard import RescoreConfig, rescore_champion
from models.evaluation.verdict import GateConfig, Verdict, judge, other_answers, split_overlap
from models.generation.config import GenerationConfig
from models.registry.runs import FINGERPRINT
from models.registry.versions import MODEL_DIGEST, Registry, Version
from tasks.store.artifact import MANIFEST, Artifact
from tasks.store.stage import Stage

log = logging.getLogger(__name__)

COPIES = "registry"  # the folder of a home in which a server's models are copied
WAIT_SECONDS = 30  # for MLflow to answer; after that the model waits for the next run
Result = TypeVar("Result")

STAGE = Stage("rescore", rescore_champion)


def champion_digest(champion: Version) -> str:
    return champion.tags.get(MODEL_DIGEST, f"version {champion.number} of {champion.run_id}")


def champion_artifact(champion: Version, registry: Registry, home: Path) -> Artifact:
    """The model in service, as an input like any other."""
    folder, name = registry.folder(champion, home / COPIES), f"v{champion.number}"
    return Artifact("champion", name, champion_digest(champion), folder, 1, "reused", 0.0, "it is in service")


def unreadable(champion: Version, registry: Registry, home: Path) -> str:
    """Why the champion is no bar, or "" where it can be loaded."""
    damage = registry.unreadable(champion, home / COPIES)
    return f"champion v{champion.number} cannot be read and is no bar ({damage})" if damage else ""


def taken_out(train: Artifact, registry: Registry) -> str:
    """Why the gate leaves this training alone: a person took its version out of service; or ""."""
    found = registry.taken_out(train.fingerprint, train.digest)
    if found is None:
        return ""
    version, why = found
    return (
        f"v{version}, which this training made, was taken out of service by hand ({why}); "
        f"`repartee promote {version}` puts it back"
    )


def overlap(champion: Version, clean: Artifact, registry: Registry) -> str:
    today = json.loads((clean.path / MANIFEST).read_text())["ingredients"]["config"]
    return split_overlap(registry.params(champion), today, champion.number)


def wish(
    champion: Version,
    train: Artifact,
    config: GateConfig,
    generation: GenerationConfig,
    registry: Registry,
    home: Path,
) -> str:
    """Why the champion's own weights are registered once more: they are to answer otherwise; or ""."""
    is_another = champion.tags.get(FINGERPRINT) != train.fingerprint
    if is_another or config.promote == "never" or taken_out(train, registry):
        return ""
    return other_answers(champion.number, generation, registry.folder(champion, home / COPIES))


@task(task_run_name="score")
def score(model: Artifact, clean: Artifact, max_replies: int | None, home: Path) -> dict[str, float]:
    """The figures of a model on the test split of a corpus, made or reused."""
    scores = _score_again(model, clean, max_replies, home)
    return {f"test_{name}": scores[name] for name in ("bpb", "perplexity", "accuracy", "replies")}


@task(task_run_name="gate")
def gate(
    train: Artifact,
    evaluate: Artifact,
    clean: Artifact,
    config: GateConfig,
    home: Path,
    registry: Registry,
    generation: GenerationConfig,
) -> Verdict:
    return patiently(lambda: decide(train, evaluate, clean, config, home, registry, generation))


def decide(
    train: Artifact,
    evaluate: Artifact,
    clean: Artifact,
    config: GateConfig,
    home: Path,
    registry: Registry,
    generation: GenerationConfig,
) -> Verdict:
    """The verdict about a model, and the champion that it was judged against.

    Raises:
        TrackingUnavailable: nobody can say now who the champion is.
    """
    candidate = json.loads((evaluate.path / "score.json").read_text())
    champion = registry.champion()
    serves = champion is not None and champion_digest(champion) == train.digest
    if not serves and (refusal := taken_out(train, registry)):
        verdict = Verdict(False, refusal, champion.number if champion else None)
    elif champion is None:
        verdict = judge(candidate, None, 0, config)
    elif damage := unreadable(champion, registry, home):
        verdict = _without_bar(champion, damage, train, config)
    elif different := wish(champion, train, config, generation, registry, home):
        verdict = Verdict(True, different, champion.number)
    else:
        verdict = _against(champion, candidate, clean, config, home, registry)
    log.info("gate: %s: %s", "promotes" if verdict.promote else "refuses", verdict.reason)
    return verdict


def _without_bar(champion: Version, damage: str, train: Artifact, config: GateConfig) -> Verdict:
    if champion_digest(champion) == train.digest:
        damage = f"it is champion v{champion.number} itself, whose files are stored again ({damage})"
    elif config.promote == "never":
        damage = f"gate.promote is never: it was only measured; {damage}"
        return Verdict(False, damage, champion.number)
    return Verdict(True, damage, champion.number)


def _against(
    champion: Version,
    candidate: dict[str, Any],
    clean: Artifact,
    config: GateConfig,
    home: Path,
    registry: Registry,
) -> Verdict:
    artifact = champion_artifact(champion, registry, home)
    rescored = _score_again(artifact, clean, candidate["max_replies"], home)
    return judge(candidate, rescored, champion.number, config, overlap(champion, clean, registry))


def _score_again(model: Artifact, clean: Artifact, max_replies: int | None, home: Path) -> dict[str, Any]:
    rescored = STAGE.run(home, RescoreConfig(max_replies=max_replies), {"champion": model, "clean": clean})
    scores: dict[str, Any] = json.loads((rescored.path / "score.json").read_text())
    return scores


def patiently(ask: Callable[[], Result]) -> Result:
    """What it gives, once MLflow answers: a server may be starting again."""
    again = Retrying(
        retry=retry_if_exception_type(TrackingUnavailable),
        stop=stop_after_delay(WAIT_SECONDS),
        wait=wait_fixed(3),
        before_sleep=_waits,
        reraise=True,
    )
    return again(ask)


def _waits(state: RetryCallState) -> None:
    if state.attempt_number == 1:
        log.info("waits up to %d s for MLflow, which does not answer", WAIT_SECONDS)
