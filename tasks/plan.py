"""Plan: determine what a run would do, and why, before any stage starts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from corpus.mix import name_of_mix
from models.errors import TrackingUnavailable
from models.evaluation.ledger import Comparison
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.evaluation.verdict import judge
from models.pretrained.source import TRUNK
from models.registry.tags import CORPUS, FINGERPRINT
from models.registry.version import Version
from tasks import gate
from tasks.prefect_api.recorded import recorded
from tasks.store.artifact import Artifact, find
from tasks.store.run_context import RunContext
from tasks.store.stage import Stage, digests_of
from tasks.store.stage_event import KEY, StageEvent
from tasks.trunk import night

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with one stage."""

    name: str
    action: Literal["run", "reuse"]
    why: str


@dataclass(frozen=True)
class Plan:
    """What a run would do with each stage, in order, and the outputs that are already in the store."""

    stages: list[PlannedStage]
    outputs: dict[str, Artifact]
    champion: Version | None
    warning: str = ""
    """A problem with MLflow or the champion that does not prevent training; "" if there is none."""

    @property
    def nothing_to_do(self) -> bool:
        return all(stage.action == "reuse" for stage in self.stages)

    @property
    def is_judged(self) -> bool:
        """Whether the model has been trained and judged, so that at most the trunk has to move."""
        return all(stage.action == "reuse" for stage in self.stages if stage.name != TRUNK)

    @property
    def reason(self) -> str:
        """Why there is nothing to do, or nothing but to move the trunk."""
        return [stage.why for stage in self.stages if stage.action == "reuse"][-1]


def plan_chain(run: RunContext, chain: Sequence[Stage]) -> tuple[list[PlannedStage], dict[str, Artifact]]:
    """Return what each stage of this run would do and why, and the outputs that are already in the store."""
    used = [stage for stage in chain if stage.is_used(stage.config(run))]
    names = [stage.name for stage in used]
    planned: list[PlannedStage] = []
    outputs: dict[str, Artifact] = {}
    for stage in used:
        inputs, config = stage.inputs(run, names), stage.config(run)
        if missing := [name for name in inputs if name not in outputs]:
            planned.append(PlannedStage(stage.name, "run", _will_change(missing)))
            continue
        given = {name: outputs[name] for name in inputs}
        digests = digests_of(given, stage.external(run, config, given).identity)
        why = stage.why(run.home, config, digests)
        if found := stage.find(run.home, stage.fingerprint(config, digests)):
            outputs[stage.name] = found
        planned.append(PlannedStage(stage.name, "reuse" if found else "run", why))
    return planned, outputs


def plan_run(run: RunContext, chain: Sequence[Stage]) -> Plan:
    """Plan the chain, the gate and the registration. The champion is read now, before training starts."""
    stages, outputs = plan_chain(run, chain)
    try:
        champion = run.registry.champion()
        damage = gate.unreadable(run, champion) if champion else ""
        changed = ""
        if champion and "evaluate" in outputs and not damage:
            changed = gate.changed_answers(run, champion, outputs["train"])
        settled = "" if damage or changed else _settled(run, outputs, champion)
    except TrackingUnavailable as outage:
        why = f"{outage}; if this lasts, the next run registers the trained model"
        return Plan([*stages, *_judgement("run", why), *_trunk(run, outputs)], outputs, None, why)
    action: Literal["run", "reuse"] = "reuse" if settled else "run"
    why = settled or changed or _open_question(outputs, champion, damage)
    warning = damage or (other_corpus(run, champion) if champion else "")
    return Plan([*stages, *_judgement(action, why), *_trunk(run, outputs)], outputs, champion, warning)


def other_corpus(run: RunContext, champion: Version) -> str:
    """A warning if the champion and this run have no source in common; otherwise ""."""
    ours, theirs = name_of_mix(run.params["download.corpus"]), champion.tags.get(CORPUS, "")
    if not theirs or set(ours.split("+")) & set(theirs.split("+")):
        return ""
    return (
        f"champion v{champion.number} of the line {run.registry.model} was trained on {theirs}, and a model "
        f"that is better than it on the test split of {ours} replaces it; if both are to be in service, give "
        "this corpus a line of its own with --line NAME"
    )


def _will_change(stages: Sequence[str]) -> str:
    """The reason to run a stage again: `stages`, which produce its inputs, will run, so the inputs change."""
    if len(stages) == 1:
        return f"{stages[0]} changes"
    return f"{', '.join(stages[:-1])} and {stages[-1]} change"


def _judgement(action: Literal["run", "reuse"], why: str) -> list[PlannedStage]:
    return [PlannedStage(name, action, why) for name in ("gate", "register")]


def _trunk(run: RunContext, outputs: Mapping[str, Artifact]) -> list[PlannedStage]:
    """What a night would do with the trunk of its model line; nothing if the run is no night."""
    return [PlannedStage(TRUNK, *night.planned(run, outputs.get("train")))] if night.is_night(run) else []


def _open_question(outputs: Mapping[str, Artifact], champion: Version | None, damage: str) -> str:
    """The reason why the gate has to judge the model."""
    if "evaluate" not in outputs:
        return "; ".join(["evaluate changes", *([damage] if damage else [])])
    return damage or (
        f"this model has not been compared with champion v{champion.number} yet"
        if champion
        else "no champion yet"
    )


def _settled(run: RunContext, outputs: Mapping[str, Artifact], champion: Version | None) -> str:
    """Why the gate need not judge the model in these outputs; "" if the gate has to judge that model."""
    if champion is None or "evaluate" not in outputs:
        return ""
    if champion.tags.get(FINGERPRINT) == outputs["train"].fingerprint:
        return f"this model is champion v{champion.number} already"
    if refusal := gate.taken_out(run, outputs["train"]):
        return f"already refused: {refusal}"
    score = ScoreRecord.read(outputs["evaluate"].path / SCORE)
    digests = {"champion": champion.digest, "clean": outputs["clean"].digest}
    rescored = find(run.home, gate.rescore.name, gate.rescore.fingerprint(gate.rescore.config(run), digests))
    if rescored is None:
        return ""
    comparison = Comparison(outputs["train"].digest, champion.digest, score.test_set)
    number = gate.ledger_of(run).known_number(comparison)
    overlap = gate.overlap(run, champion, outputs["clean"])
    champions = ScoreRecord.read(rescored.path / SCORE)
    noise = gate.noise_of(run, outputs["train"])
    verdict = judge(score, champions, champion.number, run.gate, overlap, number or 1, noise)
    is_undecided = verdict.gain is not None and number is None
    return "" if verdict.promote or is_undecided else f"already refused: {verdict.reason}"


@recorded("plan")
def plan(run: RunContext, chain: Sequence[Stage]) -> Plan:
    planned = plan_run(run, chain)
    log.info("plan: %s", summary(planned), extra={KEY: [_event(stage) for stage in planned.stages]})
    if planned.warning:
        log.warning("plan: %s", planned.warning)
    return planned


def summary(plan: Plan) -> str:
    """Which stages run and which are reused, in one line."""
    names = {
        action: ", ".join(stage.name for stage in plan.stages if stage.action == action)
        for action in ("run", "reuse")
    }
    return "; ".join(f"{action} {listed}" for action, listed in names.items() if listed)


def _event(stage: PlannedStage) -> StageEvent:
    return StageEvent(stage.name, "waiting" if stage.action == "run" else "reused")
