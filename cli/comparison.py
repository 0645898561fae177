"""`repartee compare`: how two registered versions differ, in origin, figures and replies."""

import json
from dataclasses import dataclass
from typing import Any

from models.errors import InputError
from models.evaluation.gain import Gain, measure_gain
from models.evaluation.report import REPORT, Report
from models.evaluation.scorecard import SCORE, ScoreRecord
from models.registry.reference import in_line, open_registry
from models.registry.tags import COMMIT, DEVICE, PRECISION, RECIPE
from models.registry.version import Version
from models.registry.versions import Registry
from settings import Settings
from tasks.run_page.contents import FACT_TABLE, HASHES, REJECT_TABLE, SPLIT_TABLE

CONFIDENCE = 0.95
TAGS = {COMMIT: "code", DEVICE: "device", PRECISION: "precision"}
"""The tags of a run that say on what and where a model was trained, and the words for them."""
TRAINING_FACTS = {"train_steps": "training steps", "train_stopped_by": "end of training"}


@dataclass(frozen=True)
class Side:
    """One of the two versions, with what its MLflow run recorded."""

    line: str
    version: Version
    origin: dict[str, str]
    """The settings, the data, the code and the machine, as values by name."""
    figures: dict[str, float]
    score: ScoreRecord | None
    """The score on each group of the test split; None if the run has none, for example after its deletion."""
    replies: dict[str, str]
    """The replies to contexts of the test split and to fixed openers, by context."""
    truths: dict[str, str]
    """The replies in the corpus, by context."""

    @property
    def name(self) -> str:
        return f"{self.line} v{self.version.number}"


def compare_versions(first: str, second: str, line: str | None) -> dict[str, Any]:
    """How the version that `second` names differs from the version that `first` names.

    Raises:
        InputError: there is no such version.
        TrackingUnavailable: MLflow does not answer.
    """
    registry = open_registry(Settings(), line)
    old, new = (_side(*in_line(ref, registry)) for ref in (first, second))
    gain, why_none = _gain(old, new)
    names = sorted(old.origin.keys() | new.origin.keys())
    shared = [context for context in new.replies if context in old.replies]
    return {
        "first": _identity(old),
        "second": _identity(new),
        "origin": [
            {"what": name, "first": old.origin.get(name, ""), "second": new.origin.get(name, "")}
            for name in names
            if old.origin.get(name) != new.origin.get(name)
        ],
        "figures": [
            {"figure": name, "first": old.figures.get(name), "second": new.figures.get(name)}
            for name in dict.fromkeys([*new.figures, *old.figures])
        ],
        "gain": gain and {**gain._asdict(), "upper": 2 * gain.bits - gain.lower, "confidence": CONFIDENCE},
        "why_no_gain": why_none,
        "replies": [
            {
                "context": context,
                "first": old.replies[context],
                "second": new.replies[context],
                "in_the_corpus": new.truths.get(context),
            }
            for context in shared
        ],
    }


def _identity(side: Side) -> dict[str, Any]:
    version = side.version
    return {
        "line": side.line,
        "version": version.number,
        "aliases": list(version.aliases),
        "run_id": version.run_id,
    }


def _side(registry: Registry, ref: str) -> Side:
    version = registry.find(ref)
    run = registry.run_or_none(version.run_id) if version.run_id else None
    if run is None:
        return Side(registry.model, version, {}, version.scores, None, {}, {})
    report, score = (registry.read_artifact(version.run_id, f"report/{name}") for name in (REPORT, SCORE))
    shown = Report.model_validate_json(report) if report else None
    scored = ScoreRecord.model_validate_json(score) if score else None
    samples = {_context(sample.context): sample for sample in (shown.samples if shown else [])}
    return Side(
        line=registry.model,
        version=version,
        origin=_origin(registry, version, dict(run.data.params), dict(run.data.tags)),
        figures={key: float(value) for key, value in shown.metrics.items()} if shown else version.scores,
        score=scored,
        replies={
            **{context: sample.reply for context, sample in samples.items()},
            **(scored.openers if scored else {}),
        },
        truths={context: sample.said for context, sample in samples.items()},
    )


def _context(turns: list[str]) -> str:
    return "\n".join(turns)


def _origin(
    registry: Registry, version: Version, params: dict[str, str], tags: dict[str, str]
) -> dict[str, str]:
    """On what, with which settings and where a version was trained, as values by name."""
    wanted = (SPLIT_TABLE, REJECT_TABLE, FACT_TABLE)
    tables = {path: registry.read_table(version.run_id, path) for path in wanted}
    facts = {row["fact"]: str(row["value"]) for row in tables[FACT_TABLE]}
    digests = json.loads(registry.read_artifact(version.run_id, HASHES) or "{}").get("datasets", {})
    found = {RECIPE.rpartition(".")[2]: tags.get(RECIPE, "")} | params
    found |= {word: tags[tag] for tag, word in TAGS.items() if tag in tags}
    found |= {word: facts[fact] for fact, word in TRAINING_FACTS.items() if fact in facts}
    for row in tables[SPLIT_TABLE]:
        digest = next((each for name, each in digests.items() if name.endswith(f"-{row['split']}")), "")
        counts = f"{row['conversations']:,} conversations, {row['turns']:,} turns, {row['tokens']:,} tokens"
        found[f"data: {row['split']} split"] = counts
        found[f"data: {row['split']} split, SHA-256"] = digest[:8]
    for row in tables[REJECT_TABLE]:
        found[f"data: {row['stage']}: {row['cause']}"] = f"{row['count']:,}"
    return found


def _gain(old: Side, new: Side) -> tuple[Gain | None, str]:
    """The gain of the new version over the old one, or why it cannot be computed."""
    for side in (old, new):
        if side.score is None or not side.score.groups:
            return None, f"the MLflow run of {side.name} has no scores of groups"
    assert old.score is not None and new.score is not None
    if old.score.normalisation != new.score.normalisation:
        return None, "the two versions normalise text differently, so their bits per byte are not comparable"
    if old.score.test_set != new.score.test_set:
        return None, (
            "the two versions were scored on different test replies, so their figures are not comparable; "
            "`repartee evaluate VERSION` scores a version on another corpus"
        )
    try:
        return measure_gain(new.score.groups, old.score.groups, (1 - CONFIDENCE) / 2), ""
    except InputError as error:
        return None, str(error)
