"""Plan: what a run would do and why, told before anything is started."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefect import task

from models.config import Config
from models.errors import TrackingUnavailable
from models.evaluation.scorecard import RescoreConfig
from models.evaluation.verdict import GateConfig, judge
from models.generation.config import GenerationConfig
from models.registry.versions import Registry, Version
from tasks import gate
from tasks.store.artifact import Artifact, find
from tasks.store.stage import Stage, digests_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Link:
    """A stage of the chain with its settings and the names of the stages that it reads."""

    stage: Stage
    config: Config
    inputs: tuple[str, ...] = ()
    identity: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a run would do with one stage."""

    name: str
    action: Literal["run", "reuse"]
    why: str


@dataclass(frozen=True)
class Plan:
    """The steps in order, and the outputs that are in the store."""

    steps: list[Step]
    outputs: dict[str, Artifact]
    champion: Version | None
    warning: str = ""
    """What is wrong with MLflow or the champion, and hinders no training."""

    @property
    def nothing_to_do(self) -> bool:
        return all(step.action == "reuse" for step in self.steps)


def plan_chain(chain: Sequence[Link], home: Path) -> tuple[list[Step], dict[str, Artifact]]:
    """For each stage whether it would run, and why; and the outputs that are already there."""
    steps: list[Step] = []
    outputs: dict[str, Artifact] = {}
    for link in chain:
        missing = [name for name in link.inputs if name not in outputs]
        if missing:
            steps.append(Step(link.stage.name, "run", f"{' and '.join(missing)} would run first"))
            continue
        digests = digests_of({name: outputs[name] for name in link.inputs}, link.identity)
        why = link.stage.why(home, link.config, digests)
        found = find(home, link.stage.name, link.stage.fingerprint(link.config, digests))
        if found is not None:
            outputs[link.stage.name] = found
        steps.append(Step(link.stage.name, "reuse" if found else "run", why))
    return steps, outputs


def plan_run(
    chain: Sequence[Link],
    gate_config: GateConfig,
    home: Path,
    registry: Registry,
    generation: GenerationConfig,
) -> Plan:
    """The whole chain, gate and registration included; the champion is looked at before the training."""
    steps, outputs = plan_chain(chain, home)
    try:
        champion = registry.champion()
        damage = gate.unreadable(champion, registry, home) if champion else ""
        wish = ""
        if champion and "evaluate" in outputs and not damage:
            wish = gate.wish(champion, outputs["train"], gate_config, generation, registry, home)
        settled = "" if damage or wish else _settled(outputs, champion, gate_config, home, registry)
    except TrackingUnavailable as outage:
        why = f"{outage}; the model that is trained waits for the next run"
        return Plan([*steps, Step("gate", "run", why), Step("register", "run", why)], outputs, None, why)
    action: Literal["run", "reuse"] = "reuse" if settled else "run"
    why = settled or wish or _open_question(outputs, champion, damage)
    return Plan([*steps, Step("gate", action, why), Step("register", action, why)], outputs, champion, damage)


def _open_question(outputs: Mapping[str, Artifact], champion: Version | None, damage: str) -> str:
    """Why the gate has something to do."""
    if "evaluate" not in outputs:
        return "; ".join(["evaluate would run first", *([damage] if damage else [])])
    return damage or (f"champion v{champion.number} has not met it" if champion else "there is no champion")


def _settled(
    outputs: Mapping[str, Artifact],
    champion: Version | None,
    config: GateConfig,
    home: Path,
    registry: Registry,
) -> str:
    """How the model that these outputs made has already been judged, or "" if it has not."""
    if champion is None or "evaluate" not in outputs:
        return ""
    if champion.tags.get("repartee.train_fingerprint") == outputs["train"].fingerprint:
        return f"this very model is champion v{champion.number}"
    if refusal := gate.taken_out(outputs["train"], registry):
        return f"already refused: {refusal}"
    score = json.loads((outputs["evaluate"].path / "score.json").read_text())
    rescoring = RescoreConfig(max_replies=score["max_replies"])
    digests = {"champion": gate.champion_digest(champion), "clean": outputs["clean"].digest}
    rescored = find(home, gate.STAGE.name, gate.STAGE.fingerprint(rescoring, digests))
    if rescored is None:
        return ""
    champions = json.loads((rescored.path / "score.json").read_text())
    overlap = gate.overlap(champion, outputs["clean"], registry)
    verdict = judge(score, champions, champion.number, config, overlap)
    return "" if verdict.promote else f"already refused: {verdict.reason}"


@task(task_run_name="plan")
def plan(
    chain: Sequence[Link],
    gate_config: GateConfig,
    home: Path,
    registry: Registry,
    generation: GenerationConfig,
) -> Plan:
    planned = plan_run(chain, gate_config, home, registry, generation)
    if planned.warning:
        log.warning("plan: %s", planned.warning)
    return planned
