"""The lineage of a version as text for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.terminal.tables import moment_text
from models.registry.tags import CHANGES, FLOW_RUN_ID, LOCATION, RECIPE, SCHEDULE, SOURCE

if TYPE_CHECKING:
    from cli.provenance.lineage import Lineage
    from cli.provenance.service import Period
    from models.evaluation.ledger import Decision
    from tasks.provenance.ancestry import Ancestor

MAX_ANCESTORS = 6


def lineage_text(lineage: "Lineage") -> str:
    """The inputs of the version, then that from which its training began, then its use."""
    version = lineage.version
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    lines = [f"{lineage.line} v{version.number}{aliases}"]
    for label, texts in _facts(lineage).items():
        for i, text in enumerate(texts):
            lines.append(f"  {'' if i else label:<12}{text}")
    return "\n".join([*lines, "", *_stage_lines(lineage)])


def _facts(lineage: "Lineage") -> dict[str, list[str]]:
    version, tags = lineage.version, lineage.tags
    recipe = f"{tags.get(RECIPE, '')} on {tags.get(SOURCE, '')}" if RECIPE in tags else ""
    facts = {
        "recipe": [recipe],
        "changes": [tags.get(CHANGES, "")],
        "code": [_code_text(lineage)],
        "began with": [_ancestor_text(each) for each in lineage.ancestors[:MAX_ANCESTORS]],
        "trained by": [_joined(lineage.run_name, lineage.prefect_url)],
        "schedule": [tags.get(SCHEDULE, "")],
        "trained at": [tags.get(LOCATION, "")],
        "MLflow": [f"run {version.run_id}, {lineage.run_url}"],
        "registered": [moment_text(version.created.isoformat())],
        "decided": [_decision_text(each) for each in lineage.decisions],
        "champion": [_period_text(each, lineage) for each in lineage.periods] or ["never"],
    }
    left = len(lineage.ancestors) - MAX_ANCESTORS
    if left > 0:
        facts["began with"].append(f"and {left} before (--json)")
    return {label: [text for text in texts if text] for label, texts in facts.items()}


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)


def _code_text(lineage: "Lineage") -> str:
    if lineage.is_tree_clean is None:
        return "the commit is not known (no git checkout)"
    state = "no file was modified" if lineage.is_tree_clean else "with modified files"
    return f"commit {lineage.commit}, {state}"


def _ancestor_text(ancestor: "Ancestor") -> str:
    kind = "" if ancestor.kind == ancestor.title else f"{ancestor.kind}: "
    is_named = ancestor.version is None or str(ancestor.version) in ancestor.title.rpartition("v")[2]
    version = "" if is_named else f"v{ancestor.version}"
    return _joined(f"{kind}{ancestor.title}", version, moment_text(ancestor.at) if ancestor.at else "")


def _decision_text(decision: "Decision") -> str:
    word = "promoted" if decision.promote else "refused"
    return (
        f"{moment_text(decision.at)}: {word} against v{decision.champion_version}, gain {decision.gain:.4f}, "
        f"certainly more than {decision.lower:.4f} bits per byte, margin {decision.min_gain:.4g} (decision "
        f"{decision.number} on its test data)"
    )


def _period_text(period: "Period", lineage: "Lineage") -> str:
    time = f"since {moment_text(period.since)}"
    if period.until:
        until = f"{moment_text(period.until)} (then v{period.replaced_by})"
        time = f"from {moment_text(period.since)} to {until}"
    before = f" instead of v{period.instead_of}" if period.instead_of else ""
    return f"{time}{before}, {_promoter(period, lineage)}: {period.why}"


def _promoter(period: "Period", lineage: "Lineage") -> str:
    if period.flow_run_id is None:
        return "by a user"
    is_own = period.flow_run_id == lineage.tags.get(FLOW_RUN_ID)
    return "by the run that trained it" if is_own else f"by the run {period.flow_run_id}"


def _stage_lines(lineage: "Lineage") -> Iterator[str]:
    """The outputs behind the version, a line for each stage."""
    if not lineage.stages:
        yield "the outputs from which it was made are not recorded"
        return
    yield f"{'stage':<12}{'digest':<14}{'fingerprint':<26}store"
    for stage in lineage.stages:
        fingerprint = stage.fingerprint or "(not known)"
        where = stage.path or "no longer there"
        yield f"{stage.stage:<12}{stage.digest[:12]:<14}{fingerprint:<26}{where}"
