"""Outcome: the result of a run, for people and for programs."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from models.evaluation.figures import figure_table
from models.quantities import count_text, duration_text
from tasks.run_page.training import champion_title, training_line
from tasks.store.artifact import Artifact

Ending = Literal["promoted", "refused", "unchanged", "skipped", "trained_not_registered"]


@dataclass(frozen=True)
class Outcome:
    """The result of a run; `to_json` returns what the command prints with --json."""

    outcome: Ending
    reason: str
    model: str
    version: int | None
    mlflow_run_id: str | None
    flow_run_id: str | None
    seconds: float
    stages: list[dict[str, Any]]
    metrics: dict[str, float] = field(default_factory=dict)
    model_path: str = ""
    mlflow_url: str = ""
    champion_metrics: dict[str, float] = field(default_factory=dict)
    """The metrics of the champion with which the model was compared, on the same test split."""
    champion: int | None = None
    """The champion with which the model was compared."""
    champion_steps: int | None = None
    """The number of steps for which that champion was trained; None if it is not known."""
    training: str = ""
    """How far the training of the model came, and why it ended."""
    promote_command: str = ""
    """The command that promotes a refused model anyway."""

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    def to_markdown(self) -> str:
        """The reason, the metrics and the stages as Markdown for the dashboard, which shows the headline
        above this text."""
        lines = [self.reason, ""]
        if self.training:
            lines += [f"Training: {self.training_line()}.", ""]
        if self.promote_command:
            lines += [f"To promote this model anyway: `{self.promote_command}`", ""]
        if self.mlflow_url:
            lines += [f"MLflow: {self.mlflow_url}", ""]
        title = champion_title(self.champion, was_replaced=self.outcome == "promoted")
        lines += [figure_table(self.metrics, self.champion_metrics, title=title)]
        lines += [
            "## Stages",
            "",
            "| stage | status | time | output | why |",
            "| --- | --- | ---: | ---: | --- |",
        ]
        lines += [
            f"| {row['name']} | {row['status']} | {duration_text(row['seconds'])} "
            f"| {count_text(row['rows'], row['unit'])} | {row['why']} |"
            for row in self.stages
        ]
        return "\n".join(lines) + "\n"

    def headline(self) -> str:
        if self.outcome == "promoted":
            return f"Promoted: {self.model} v{self.version} is the champion"
        if self.outcome == "refused":
            champion = f"champion v{self.version} stays" if self.version else "there is no champion"
            return f"Refused: {champion}"
        if self.outcome == "skipped":
            return f"Skipped: another run of {self.model} is in progress"
        if self.outcome == "trained_not_registered":
            return "Trained, not registered: MLflow does not answer"
        return f"Unchanged: champion v{self.version} stays"

    def training_line(self) -> str:
        """How far the training came, and for how many steps the champion was trained."""
        return training_line(self.training, self.champion, self.champion_steps)

    def short(self) -> str:
        """The short form of the outcome that is added to the name of a run, such as `promoted v3`."""
        return f"promoted v{self.version}" if self.outcome == "promoted" else _words(self.outcome)


def without_outcome(name: str) -> str:
    """The name of a run without the outcome that was added to it when the run ended."""
    endings = "|".join(_words(each) for each in get_args(Ending))
    return re.sub(f": ({endings})( v[0-9]+)?$", "", name)


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def stage_row(artifact: Artifact) -> dict[str, Any]:
    """A stage as it appears in the JSON output of a run."""
    return {
        "name": artifact.stage,
        "status": artifact.status,
        "seconds": artifact.seconds,
        "rows": artifact.rows,
        "unit": artifact.unit,
        "path": str(artifact.path),
        "fingerprint": artifact.fingerprint,
        "why": artifact.why,
    }
