"""The verdict on a new model: it is promoted if it beats the champion on the same test bytes.

A refusal is a normal result: the verdict gives the reason, and the champion remains in service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from models.config import Config, value_text
from models.evaluation.scorecard import ScoreRecord
from models.generation.config import GenerationConfig
from models.generation.generation_config import read_generation, to_transformers


class GateConfig(Config):
    min_gain: float = Field(default=0.0, ge=0)
    """Bits per byte by which a new model must be better than the champion."""
    promote: Literal["auto", "never", "always"] = "auto"
    """`auto`: promote a model that beats the champion. `never`: promote no model. `always`: promote any model
    except one that a user has taken out of service."""


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate, and the reason for it as a sentence."""

    promote: bool
    reason: str
    champion: int | None = None  # the version with which the candidate was compared
    champion_bpb: float | None = None
    champion_score: ScoreRecord | None = None
    """The champion's score on the same test split; None if the champion was not scored."""


def judge(
    candidate: ScoreRecord,
    champion: ScoreRecord | None,
    name: int,
    config: GateConfig,
    overlap: str = "",
) -> Verdict:
    """Promote if there is no champion, or if the candidate has fewer bits per byte on the same bytes.

    `gate.promote` can override this rule. `overlap` is the reason why the champion may have been trained on
    the test split, or "" if it cannot have been. If `overlap` is not "", the models cannot be compared.
    """
    if config.promote == "never":
        against = (None, None) if champion is None else (name, champion.bpb)
        return Verdict(False, "gate.promote is never: the model was scored but not promoted", *against)
    if champion is None:
        return Verdict(True, "no champion yet")
    new, old = candidate.bpb, champion.bpb
    if config.promote == "always":
        reason = f"gate.promote is always: {new:.4f} bits per byte, champion v{name} has {old:.4f}"
        return Verdict(True, reason, name, old)
    if candidate.normalisation != champion.normalisation:
        reason = (
            f"the candidate's text is normalised as `{candidate.normalisation}` and champion v{name}'s as "
            f"`{champion.normalisation}`: bits per byte are comparable only within one normalisation"
        )
        return Verdict(False, reason, name, old)
    if overlap:
        return Verdict(False, overlap, name)
    reason = f"{new:.4f} bits per byte against champion v{name}'s {old:.4f} on the same test bytes"
    if candidate.max_replies:
        reason += f" ({candidate.replies:,} replies of the test split)"
    if new < old - config.min_gain:
        return Verdict(True, reason, name, old)
    short = f", but gate.min_gain requires {config.min_gain} fewer" if config.min_gain and new < old else ""
    return Verdict(False, f"not better: {reason}{short}", name, old)


def split_overlap(trained: Mapping[str, Any], today: Mapping[str, Any], name: int) -> str:
    """Why the champion may have been trained on today's test split; "" if that is impossible.

    `trained` contains the settings of the champion, and `today` those of the current `clean` output. The test
    split consists of the groups whose hash is below `clean.test_share`. The test split for a smaller share is
    therefore a subset of the test split for a larger share.
    """
    by, share = trained.get("clean.split_by"), trained.get("clean.test_share")
    if by is None or share is None:
        return ""
    if by == today["split_by"] and float(share) >= today["test_share"]:
        return ""
    return (
        f"champion v{name} was trained with clean.split_by={by} and clean.test_share={share}, this model "
        f"with {today['split_by']} and {today['test_share']}: the champion may have trained on today's test "
        "split, so the two cannot be compared; `--set gate.promote=always` promotes the new model anyway"
    )


def other_answers(champion: int, generation: GenerationConfig, folder: Path) -> str:
    """Describe how `generation` differs from the settings in the champion's `folder`; "" if equal."""
    served = read_generation(folder)
    if to_transformers(served) == to_transformers(generation):
        return ""
    changes = [
        f"generation.{key} changes from {value_text(getattr(served, key))} to {value_text(value)}"
        for key, value in generation
        if value != getattr(served, key)
    ]
    return (
        f"the weights are those of champion v{champion}, but the generation settings differ: "
        f"{', '.join(changes)}"
    )
