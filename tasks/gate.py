"""Gate: scores the champion on the new model's test split, and decides whether to replace the champion."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from models.errors import TrackingUnavailable
from models.evaluation.gain import measure_gain
from models.evaluation.ledger import Comparison, Decision, Ledger
from models.evaluation.noise import Machine, Noise, find_noise
from models.evaluation.scorecard import SCORE, ScoreRecord, rescore_champion
from models.evaluation.verdict import Verdict, judge, other_answers, split_overlap
from models.pretrained.source import folder_identity
from models.registry.reference import Model
from models.registry.tags import FINGERPRINT
from models.registry.version import Version
from models.training.launch import SUMMARY, Summary
from tasks.prefect_api.recorded import recorded
from tasks.store.artifact import MANIFEST, Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import Stage
from tasks.store.stage_event import event

log = logging.getLogger(__name__)

NOISE_SETTINGS = ("download", "clean", "vocabulary", "markup", "train")
NO_NOISE = ("seed", "processes", "fast_path", "log_every", "checkpoint_seconds")
"""The settings of a training that do not decide how much its score depends on the seed."""
COPIES = "registry"  # the folder in the home for copies of models that a remote MLflow server stores
WAIT_SECONDS = 30  # how long to wait for MLflow; if it does not answer, the next run registers the model
Result = TypeVar("Result")

rescore = Stage("rescore", rescore_champion, reads=("champion", "clean"), unit="replies")


def champion_artifact(run: RunContext, champion: Version) -> Artifact:
    """The champion as an `Artifact`, which a stage can read as its input.

    Raises:
        InputError: the champion's files are damaged.
        TrackingUnavailable: MLflow does not answer.
    """
    folder = run.registry.folder(champion, run.home / COPIES)
    return _model_artifact(f"v{champion.number}", champion.digest, folder)


def model_artifact(model: Model) -> Artifact:
    """A registered version or a model folder as an `Artifact`, which a stage can read as its input."""
    return _model_artifact(model.title, model.digest or folder_identity(model.folder), model.folder)


def _model_artifact(name: str, digest: str, folder: Path) -> Artifact:
    return Artifact("champion", name, digest, folder, 1, "reused", 0.0, "it is registered")


def unreadable(run: RunContext, champion: Version) -> str:
    """The reason why a comparison with the champion is impossible; "" if the champion can be loaded."""
    damage = run.registry.unreadable(champion, run.home / COPIES)
    if not damage:
        return ""
    return f"champion v{champion.number} cannot be read, so the model is not compared with it ({damage})"


def taken_out(run: RunContext, train: Artifact) -> str:
    """The reason not to promote this model if a user has taken its version out of service; otherwise ""."""
    found = run.registry.taken_out(train.fingerprint, train.digest)
    if found is None:
        return ""
    version, why = found
    return (
        f"v{version}, which this training run produced, was taken out of service manually ({why}); "
        f"`repartee promote {version}` puts it back into service"
    )


def overlap(run: RunContext, champion: Version, clean: Artifact) -> str:
    """The reason why the champion may have been trained on the current test split; otherwise ""."""
    today = json.loads((clean.path / MANIFEST).read_text())["ingredients"]["config"]
    return split_overlap(run.registry.params(champion), today, champion.number)


def changed_answers(run: RunContext, champion: Version, train: Artifact) -> str:
    """The reason to register the champion again: changed generation settings; "" if they are unchanged."""
    is_another = champion.tags.get(FINGERPRINT) != train.fingerprint
    if is_another or run.gate.promote == "never" or taken_out(run, train):
        return ""
    return other_answers(champion.number, run.generation, run.registry.folder(champion, run.home / COPIES))


@recorded("gate")
def gate(run: RunContext, train: Artifact, evaluate: Artifact, clean: Artifact) -> Verdict:
    return wait_for_mlflow(lambda: decide(run, train, evaluate, clean))


def decide(run: RunContext, train: Artifact, evaluate: Artifact, clean: Artifact) -> Verdict:
    """The verdict on the new model, after a comparison with the champion if there is one.

    Raises:
        TrackingUnavailable: MLflow does not answer, so the champion is unknown.
    """
    candidate = ScoreRecord.read(evaluate.path / SCORE)
    champion = run.registry.champion()
    serves = champion is not None and champion.digest == train.digest
    if not serves and (refusal := taken_out(run, train)):
        verdict = Verdict(False, refusal, champion.number if champion else None, is_taken_out=True)
    elif champion is None:
        verdict = judge(candidate, None, 0, run.gate)
    elif damage := unreadable(run, champion):
        verdict = _without_champion(run, champion, damage, train)
    elif change := changed_answers(run, champion, train):
        verdict = Verdict(True, change, champion.number)
    else:
        against = f"champion v{champion.number} on the same test replies"
        log.info("gate: comparing the new model with %s", against, extra=event("gate", "running"))
        scores = score_again(run, champion_artifact(run, champion), clean)
        verdict = compare(run, champion, train, clean, candidate, scores)
    word = "promote" if verdict.promote else "refuse"
    log.info("gate: %s (%s)", word, verdict.reason, extra=event("gate", "done", output=word))
    return verdict


def compare(
    run: RunContext,
    champion: Version,
    train: Artifact,
    clean: Artifact,
    candidate: ScoreRecord,
    scores: ScoreRecord,
) -> Verdict:
    """The verdict on the new model against the champion's scores. The ledger numbers and records it."""
    ledger = ledger_of(run)
    comparison = Comparison(train.digest, champion.digest, candidate.test_set)
    number, fresh = ledger.standing(comparison, candidate.groups)
    noise = noise_of(run, train)
    verdict = judge(
        candidate, scores, champion.number, run.gate, overlap(run, champion, clean), number, noise
    )
    if (gain := verdict.gain) and (margin := verdict.margin):
        fresh_gain = _gain_on(fresh, candidate, scores)
        if fresh_gain is not None and len(fresh) < gain.groups:
            log.info(
                "gate: on the %d groups that no decision has used, the gain is %.4f bits per byte",
                len(fresh),
                fresh_gain,
            )
        decision = Decision(
            **comparison._asdict(),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            champion_version=champion.number,
            number=number,
            gain=gain.bits,
            lower=gain.lower,
            confidence=gain.confidence,
            groups=gain.groups,
            fresh_groups=len(fresh),
            fresh_gain=fresh_gain,
            min_gain=margin.bits,
            margin_from=margin.origin,
            promote=verdict.promote,
            reason=verdict.reason,
            flow_run_id=run.flow_run_id,
        )
        ledger.append(decision, candidate.groups)
    return replace(verdict, champion_score=scores)


def noise_of(run: RunContext, train: Artifact) -> Noise | None:
    """What `repartee noise` has measured for the settings of this run on the kind of machine of the model."""
    return find_noise(run.home, noise_key(run), machine_of(train))


def noise_key(run: RunContext) -> str:
    """A digest of the corpus and of the settings that decide a training, without the seed.

    The initial model is not part of it: `repartee noise` starts from random weights, from which the scores of
    several seeds differ most.
    """
    groups = {name: run.settings[name].model_dump(mode="json") for name in NOISE_SETTINGS}
    train = {key: value for key, value in groups["train"]["train"].items() if key not in NO_NOISE}
    parts = {**groups, "train": {**groups["train"], "train": train}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def machine_of(train: Artifact) -> Machine:
    """The kind of machine on which a model was trained."""
    summary = Summary.read(train.path / "logs" / SUMMARY)
    return Machine(*(getattr(summary, name) for name in Machine._fields))


def ledger_of(run: RunContext) -> Ledger:
    return Ledger(run.home, run.registry.model)


def _gain_on(groups: Sequence[str], candidate: ScoreRecord, champion: ScoreRecord) -> float | None:
    """The gain in bits per byte on some of the groups; None if there are none."""
    if not groups:
        return None
    new, old = ({name: score.groups[name] for name in groups} for score in (candidate, champion))
    return measure_gain(new, old, error=0.5).bits


def _without_champion(run: RunContext, champion: Version, damage: str, train: Artifact) -> Verdict:
    """The verdict if the champion cannot be read."""
    if champion.digest == train.digest:
        damage = f"the model is champion v{champion.number} itself, whose files are stored again ({damage})"
    elif run.gate.promote == "never":
        damage = f"gate.promote is never: the model was scored but not promoted; {damage}"
        return Verdict(False, damage, champion.number)
    return Verdict(True, damage, champion.number)


def score_again(run: RunContext, model: Artifact, clean: Artifact) -> ScoreRecord:
    """The score of a model on the test split of a corpus, computed now or read from the store."""
    rescored = rescore.run(run.home, rescore.config(run), {"champion": model, "clean": clean})
    return ScoreRecord.read(rescored.path / SCORE)


def wait_for_mlflow(request: Callable[[], Result]) -> Result:
    """Repeat the request until MLflow answers (the server may be restarting), and return the result.

    Raises:
        TrackingUnavailable: MLflow has not answered for WAIT_SECONDS.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(TrackingUnavailable),
        stop=stop_after_delay(WAIT_SECONDS),
        wait=wait_fixed(3),
        before_sleep=_log_first_wait,
        reraise=True,
    )
    return retrying(request)


def _log_first_wait(state: RetryCallState) -> None:
    if state.attempt_number == 1:
        log.info("MLflow does not answer; waiting up to %d s for an answer", WAIT_SECONDS)
