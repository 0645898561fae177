"""The verdict on a new model: it is promoted if it beats the champion on the same test bytes.

A refusal is a normal result: the verdict gives the reason, and the champion stays.
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
    """`auto`: promote a model that beats the champion. `never`: only measure. `always`: promote in any case,
    except a model that a person took out of service."""


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate, and its reason as a sentence."""

    promote: bool
    reason: str
    champion: int | None = None  # the version it was measured against
    champion_bpb: float | None = None


def judge(
    candidate: ScoreRecord,
    champion: ScoreRecord | None,
    name: int,
    config: GateConfig,
    overlap: str = "",
) -> Verdict:
    """Promote if there is no champion, or if the candidate has fewer bits per byte on the same bytes.

    `gate.promote` can decide otherwise. `overlap` is the reason why the champion may have been trained on the
    test split; then the two cannot be compared.
    """
    if config.promote == "never":
        against = (None, None) if champion is None else (name, champion.bpb)
        return Verdict(False, "gate.promote is never: the model was only measured", *against)
    if champion is None:
        return Verdict(True, "no champion yet")
    new, old = candidate.bpb, champion.bpb
    if config.promote == "always":
        reason = f"gate.promote is always: {new:.4f} bits per byte, champion v{name} has {old:.4f}"
        return Verdict(True, reason, name, old)
    if candidate.normalisation != champion.normalisation:
        reason = (
            f"its text is normalised as `{candidate.normalisation}`, champion v{name}'s as "
            f"`{champion.normalisation}`: bits per byte compare only within one"
        )
        return Verdict(False, reason, name, old)
    if overlap:
        return Verdict(False, overlap, name)
    reason = f"{new:.4f} bits per byte against champion v{name}'s {old:.4f} on the same test bytes"
    if candidate.max_replies:
        reason += f" ({candidate.replies:,} replies of the test split)"
    if new < old - config.min_gain:
        return Verdict(True, reason, name, old)
    short = f", and {config.min_gain} fewer are asked for" if config.min_gain and new < old else ""
    return Verdict(False, f"not better: {reason}{short}", name, old)


def split_overlap(trained: Mapping[str, Any], today: Mapping[str, Any], name: int) -> str:
    """Why a champion that was trained with these settings may know today's test split, or "".

    The test split is the groups whose hash is below `clean.test_share`: a smaller share is a part of a
    larger one.
    """
    by, share = trained.get("clean.split_by"), trained.get("clean.test_share")
    if by is None or share is None:
        return ""
    if by == today["split_by"] and float(share) >= today["test_share"]:
        return ""
    return (
        f"champion v{name} was trained with clean.split_by={by} and clean.test_share={share}, this model "
        f"with {today['split_by']} and {today['test_share']}: the champion may have trained on today's test "
        "split, so the two do not compare; `--set gate.promote=always` promotes all the same"
    )


def other_answers(champion: int, generation: GenerationConfig, folder: Path) -> str:
    """Which settings of its replies differ from those of the champion in the folder, or "" if none does."""
    served = read_generation(folder)
    if to_transformers(served) == to_transformers(generation):
        return ""
    changes = [
        f"generation.{key} changes from {value_text(getattr(served, key))} to {value_text(value)}"
        for key, value in generation
        if value != getattr(served, key)
    ]
    return (
        f"the weights are those of champion v{champion}, with other settings for its replies: "
        f"{', '.join(changes)}"
    )
