"""The Prefect runs of a model: the run that trained it, and the run that judged it later."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.registry.tags import FLOW_RUN_ID, FLOW_RUN_NAME, FLOW_RUN_URL, RUN_NAME

WHILE_UP = "while `repartee up` is running"


@dataclass(frozen=True)
class PrefectRun:
    """A run with its page in Prefect's dashboard."""

    name: str
    url: str
    is_always_shown: bool
    """False if only the dashboard of `repartee up` shows the run, because its own server ended with it."""

    @property
    def condition(self) -> str:
        """When the page can be opened, in parentheses after a space; empty if there is no such condition."""
        return "" if self.is_always_shown else f" ({WHILE_UP})"


def prefect_run(tags: Mapping[str, str], dashboard: str) -> PrefectRun | None:
    """The Prefect run to which these tags of an MLflow run belong; None if Prefect did not record it.

    Args:
        dashboard: the address at which `repartee up` shows the runs of the home.
    """
    flow_run, url = tags.get(FLOW_RUN_ID), tags.get(FLOW_RUN_URL)
    if not flow_run and not url:
        return None
    name = tags.get(FLOW_RUN_NAME) or tags.get(RUN_NAME) or "a run"
    return PrefectRun(name, url or f"{dashboard}/runs/flow-run/{flow_run}", bool(url))


def run_links(
    training: Mapping[str, str], present: Mapping[str, str], dashboard: str, *, outcome: str, was_reused: bool
) -> dict[str, str]:
    """Links to the run that trained a model and, if it is another one, to the run that judged it.

    Args:
        training: the tags of the model's MLflow run, which name the run that created it.
        present: the tags of the run that has just judged the model.
        outcome: promoted or refused.
        was_reused: whether the present run has reused the model of an earlier run.
    """
    trained, judged = prefect_run(training, dashboard), prefect_run(present, dashboard)
    is_same = training.get(FLOW_RUN_ID) == present.get(FLOW_RUN_ID)
    # If MLflow did not answer during the training, the run that registered the model has created the MLflow
    # run, and the run that trained the model is not known.
    by_role = {outcome: judged} if is_same and was_reused else {"trained": trained}
    if not is_same:
        by_role[outcome] = judged
    return {
        f"{role} by {_escaped(run.name)}{run.condition}": run.url
        for role, run in by_role.items()
        if run is not None
    }


def _escaped(name: str) -> str:
    """A name without characters that would end the text of a link in Markdown."""
    return name.replace("[", "(").replace("]", ")")
