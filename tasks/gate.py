"""Gate: the new model against the champion on the same test bytes; the better one serves.

Refusing is a normal end: the verdict says why, and the champion stays.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import task
from pydantic import Field

from models.config import Config
from models.dialogue import read_dialogue
from models.registry import Registry, Version
from tasks.artifacts import Artifact
from tasks.evaluate import score_model, write_score
from tasks.stage import Stage

log = logging.getLogger(__name__)


class GateConfig(Config):
    min_gain: float = Field(default=0.0, ge=0)
    """Bits per byte by which a model must beat the champion."""
    promote: Literal["auto", "never", "always"] = "auto"
    """`auto`: where it beats the champion; `never`: only measure; `always`: in any case."""


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and the sentence that says why."""

    promote: bool
    reason: str
    champion: int | None = None  # the version it was measured against
    champion_bpb: float | None = None


class RescoreConfig(Config):
    """The champion is scored as it is, on what the other was scored on."""

    max_replies: int | None = None
    """`evaluate.max_replies` of the model that it is compared with."""


def rescore_champion(out: Path, config: RescoreConfig, champion: Path, clean: Path) -> int:
    """score.json: the champion on this corpus's test split; returns the replies scored."""
    score = score_model(champion, clean / "turns.parquet", config.max_replies)
    write_score(score, read_dialogue(champion)["normalisation"], config.max_replies, out / "score.json")
    return score.replies


def judge(
    candidate: dict[str, Any], champion: dict[str, Any] | None, name: int, config: GateConfig
) -> Verdict:
    """Promote where there is no champion, or where bits per byte on the same bytes are fewer, unless told."""
    if config.promote == "never":
        against = (None, None) if champion is None else (name, champion["bpb"])
        return Verdict(False, "gate.promote is never: it was only measured", *against)
    if champion is None:
        return Verdict(True, "there was no champion")
    new, old = candidate["bpb"], champion["bpb"]
    if config.promote == "always":
        told = f"gate.promote is always: {new:.4f} bits per byte, champion v{name} has {old:.4f}"
        return Verdict(True, told, name, old)
    if candidate["normalisation"] != champion["normalisation"]:
        reason = (
            f"its text is normalised as `{candidate['normalisation']}`, champion v{name}'s as "
            f"`{champion['normalisation']}`: bits per byte compare only within one"
        )
        return Verdict(False, reason, name, old)
    told = f"{new:.4f} bits per byte against champion v{name}'s {old:.4f} on the same test bytes"
    if candidate.get("max_replies"):
        told += f" ({candidate['replies']:,} replies of the test split)"
    if new < old - config.min_gain:
        return Verdict(True, told, name, old)
    short = f", and {config.min_gain} fewer are asked for" if config.min_gain and new < old else ""
    return Verdict(False, f"not better: {told}{short}", name, old)


STAGE = Stage("rescore", rescore_champion)


def champion_digest(champion: Version) -> str:
    return champion.tags.get("repartee.model_digest", f"version {champion.number} of {champion.run_id}")


def champion_artifact(champion: Version, registry: Registry, home: Path) -> Artifact:
    """The model in service, as an input like any other."""
    folder, name = registry.folder(champion, home / "registry"), f"v{champion.number}"
    return Artifact("champion", name, champion_digest(champion), folder, 1, "reused", 0.0, "it is in service")


@task(task_run_name="score")
def score(model: Artifact, clean: Artifact, max_replies: int | None, home: Path) -> dict[str, float]:
    """The figures of a model on the test split of a corpus, made or reused."""
    told = _score_again(model, clean, max_replies, home)
    return {f"test_{name}": told[name] for name in ("bpb", "perplexity", "accuracy", "replies")}


@task(task_run_name="gate")
def gate(
    train: Artifact,
    evaluate: Artifact,
    clean: Artifact,
    config: GateConfig,
    home: Path,
    registry: Registry,
) -> Verdict:
    candidate = json.loads((evaluate.path / "score.json").read_text())
    champion = registry.champion()
    if champion is None:
        verdict = judge(candidate, None, 0, config)
    elif champion_digest(champion) == train.digest and (damage := registry.damage(champion)):
        told = f"it is champion v{champion.number} itself, whose files are stored again ({damage})"
        verdict = Verdict(True, told, champion.number)
    else:
        verdict = _against(champion, candidate, clean, config, home, registry)
    log.info("gate: %s: %s", "promotes" if verdict.promote else "refuses", verdict.reason)
    return verdict


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
    return judge(candidate, rescored, champion.number, config)


def _score_again(model: Artifact, clean: Artifact, max_replies: int | None, home: Path) -> dict[str, Any]:
    made = STAGE.run(home, RescoreConfig(max_replies=max_replies), {"champion": model, "clean": clean})
    told: dict[str, Any] = json.loads((made.path / "score.json").read_text())
    return told
