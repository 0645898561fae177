"""How far the training of a model came, and why it ended."""

from collections.abc import Mapping
from typing import Any

from models.config import value_text
from models.errors import InputError
from models.quantities import count_text, duration_text
from models.registry.versions import Registry
from models.training.launch import Summary

VALIDATED = "validation/bpb"  # a metric of the MLflow run; a training run also validates after its last step


def training_text(summary: Summary, params: Mapping[str, Any]) -> str:
    """The steps and the time of a training run and the setting that ended it, for example `739 steps in
    1 min 39 s, ended by train.max_minutes=1.5`.

    Args:
        params: the configuration of the run, by key.
    """
    text = f"{count_text(summary.steps, 'steps')} in {duration_text(summary.seconds)}"
    key = f"train.{summary.stopped_by}"
    if summary.night:
        text = f"night {summary.night} of the trunk, {text}"
    if not summary.stopped_by:
        return text
    setting = f"{key}={value_text(params[key])}" if key in params else key
    return f"{text}, ended by {setting}{' (early stopping)' if summary.stopped_by == 'patience' else ''}"


def steps_of_version(registry: Registry, version: int | None) -> int | None:
    """The number of steps for which a version was trained; None if it is not known."""
    if version is None:
        return None
    try:
        run_id = registry.find(str(version)).run_id
        if not run_id or registry.run_or_none(run_id) is None:
            return None
        return max(registry.metric_steps(run_id, VALIDATED), default=None)
    except InputError:  # MLflow does not answer, or the version was deleted
        return None


def comparison_text(version: int | None, steps: int | None) -> str:
    """How long the champion with which a model was compared was trained; "" if it is not known."""
    return f"champion v{version} was trained for {count_text(steps, 'steps')}" if version and steps else ""


def training_line(training: str, version: int | None, steps: int | None) -> str:
    """The text about a training, followed by how long the champion was trained."""
    return "; ".join(text for text in (training, comparison_text(version, steps)) if text)


def champion_title(version: int | None, *, was_replaced: bool) -> str:
    """The title of the column with the figures of the champion with which a model was compared."""
    if version is None:
        return "champion"
    return f"champion v{version}{' (before)' if was_replaced else ''}"
