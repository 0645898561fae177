"""The verdict on a new model: promoted if it is certainly better than the champion on the same test bytes,
and if its replies have not become worse (guards.py).

A refusal is a normal result: the verdict gives the reason, and the champion remains in service.
docs/decisions/0021-a-gain-must-be-certain.md gives the reasons for the rule.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from models.config import Config, value_text
from models.evaluation.checks import results
from models.evaluation.gain import Gain, error_of_decision, measure_gain
from models.evaluation.guards import compare_replies, failure
from models.evaluation.noise import Noise
from models.evaluation.scorecard import ScoreRecord
from models.generation.config import GenerationConfig
from models.generation.generation_config import read_generation, to_transformers

DEFAULT_MARGIN = 0.02  # bits per byte; 2.83 times the standard deviation between seeds of `small`
MIN_GROUPS = 8  # with fewer groups in the test split, too much depends on chance


class GateConfig(Config):
    min_gain: float | None = Field(default=None, ge=0)
    """Bits per byte by which a new model must certainly be better than the champion. null: 2.83 times the
    standard deviation between seeds that `repartee noise` has measured for the recipe and corpus on this kind
    of machine or, before such a measurement, 0.02."""
    promote: Literal["auto", "never", "always"] = "auto"
    """`auto`: promote a model that is certainly better than the champion. `never`: promote no model.
    `always`: promote any model except one that a user has taken out of service."""


class Margin(NamedTuple):
    """By how many bits per byte a new model must certainly be better."""

    bits: float
    origin: str
    """Where the value comes from, as the subject of `requires more than`."""


def margin_of(config: GateConfig, noise: Noise | None) -> Margin:
    """The margin of the configuration, else the measured one, else the default."""
    if config.min_gain is not None:
        return Margin(config.min_gain, "gate.min_gain")
    if noise is None:
        return Margin(DEFAULT_MARGIN, "the default margin (`repartee noise` measures one for this recipe)")
    return Margin(
        noise.margin,
        f"the noise between seeds that `repartee noise` measured (standard deviation {noise.deviation:.4f})",
    )


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate, and the reason for it as a sentence."""

    promote: bool
    reason: str
    champion: int | None = None  # the version with which the candidate was compared
    champion_bpb: float | None = None
    champion_score: ScoreRecord | None = None
    """The champion's score on the same test split; None if the champion was not scored."""
    gain: Gain | None = None
    """The measured gain; None if the two models were not compared."""
    margin: Margin | None = None
    """The margin that the gain had to exceed; None if the two models were not compared."""
    is_taken_out: bool = False
    """Whether a user has taken this model out of service, so that only `repartee promote` promotes it."""


def judge(
    candidate: ScoreRecord,
    champion: ScoreRecord | None,
    name: int,
    config: GateConfig,
    overlap: str = "",
    number: int = 1,
    noise: Noise | None = None,
) -> Verdict:
    """Promote if there is no champion, or if the candidate is certainly better on the same test bytes.

    Args:
        name: the version of the champion.
        config: `gate.promote` can override the rule.
        overlap: the reason why the champion may have been trained on the test split; otherwise "".
        number: the number of this decision among those on the same test data (models/evaluation/ledger.py).
        noise: what `repartee noise` has measured for the candidate's settings on the candidate's machine.
    """
    if config.promote == "never":
        against = (None, None) if champion is None else (name, champion.bpb)
        return Verdict(False, "gate.promote is never: the model was scored but not promoted", *against)
    if champion is None:
        return Verdict(True, "there was no champion before")
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
    if candidate.test_set != champion.test_set:
        reason = (
            f"the candidate was scored on {candidate.replies:,} test replies and champion v{name} on "
            f"{champion.replies:,} others: only scores on the same replies can be compared"
        )
        return Verdict(False, reason, name, old)
    return _compare(candidate, champion, name, margin_of(config, noise), number)


def _compare(
    candidate: ScoreRecord, champion: ScoreRecord, name: int, margin: Margin, number: int
) -> Verdict:
    """The verdict if both models were scored on the same test bytes."""
    old = champion.bpb
    reason = f"{candidate.bpb:.4f} bits per byte against champion v{name}'s {old:.4f} on the same test bytes"
    if candidate.max_replies:
        reason += f" ({candidate.replies:,} replies of the test split)"
    gain = measure_gain(candidate.groups, champion.groups, error_of_decision(number))
    promotes, reason = _weigh(gain, margin, reason, number)
    if promotes and (worse := failure(compare_replies(candidate.greedy, champion.greedy))):
        promotes, reason = False, _with_worse_replies(worse, len(candidate.greedy), reason)
    if promotes and (failed := results.failure(results.compare_results(candidate.checks, champion.checks))):
        promotes, reason = False, _with_failed_checks(failed, reason)
    return Verdict(promotes, reason, name, old, gain=gain, margin=margin)


def _weigh(gain: Gain, margin: Margin, reason: str, number: int) -> tuple[bool, str]:
    """Whether a gain is large and certain enough, and the reason with the figures."""
    if gain.bits <= 0:
        return False, f"not better: {reason}"
    if gain.groups < MIN_GROUPS:
        return False, (
            f"too few groups: {reason}, but the test split has only {gain.groups} groups, and the gate needs "
            f"{MIN_GROUPS}; more data or a larger clean.test_share gives more groups, and "
            "`--set gate.promote=always` promotes the model anyway"
        )
    interval = f"the lower limit of the {_percent(gain.confidence)} interval"
    if number > 1:
        interval += f" (decision {number} on these test data)"
    required = f"{margin.origin} requires more than {margin.bits:.4g}"
    if gain.lower > margin.bits:
        return True, f"{reason}: {gain.bits:.4f} fewer, and {interval} is {gain.lower:.4f}; {required}"
    return False, (
        f"not certainly better: {reason}, {gain.bits:.4f} fewer; but {interval} is {gain.lower:.4f}, and "
        f"{required}"
    )


def _with_worse_replies(worse: str, replies: int, reason: str) -> str:
    """The reason to refuse a model that has a better score but worse replies."""
    return (
        f"worse replies: of {replies} greedy replies to the same contexts, {worse}, which is certainly more; "
        f"the score would be sufficient ({reason}); `--set gate.promote=always` promotes the model anyway"
    )


def _with_failed_checks(failed: str, reason: str) -> str:
    """The reason to refuse a model that has a better score but fails checks that the champion passes."""
    return (
        f"failed checks: {failed}, which is certainly fewer; the score would be sufficient ({reason}); "
        "`--set gate.promote=always` promotes the model anyway"
    )


def _percent(share: float) -> str:
    """The share in percent, with as many digits as distinguish it from 100 %."""
    digits = max(0, math.ceil(-math.log10(1 - share)) - 1)
    return f"{share:.{digits}%}"


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
