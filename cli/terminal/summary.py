"""Summary: the outcome of a run as readable text, with the commands that are useful next."""

import shlex
import sys
import textwrap
from typing import TYPE_CHECKING

from cli.terminal.wrapping import fit
from console import supports_styles
from models.quantities import duration_text

if TYPE_CHECKING:  # this module loads Prefect, which not every verb needs
    from flows.lifecycle.outcome import Outcome
    from models.evaluation.noise import Noise

FIGURES = (
    ("bits per byte (lower is better)", "test_bpb", ".4f"),
    ("perplexity", "test_perplexity", ".2f"),
    ("accuracy", "test_accuracy", ".1%"),
)
FRAME_COLUMNS = 6  # of the panel around its title
PANEL_COLOURS = {"promoted": "green", "unchanged": "green", "refused": "yellow"}


def print_summary(outcome: "Outcome") -> None:
    """Print the outcome of a run, in a panel if standard output is a terminal.

    The commands and addresses stand below the panel and are not wrapped, so that they can be copied.
    """
    if supports_styles(sys.stdout):
        from rich.console import Console
        from rich.panel import Panel
        from rich.text import Text

        console = Console(highlight=False)
        title, body = outcome.headline(), textwrap.dedent(run_facts(outcome)).strip("\n")
        if len(title) > console.width - FRAME_COLUMNS:  # rich would cut the title
            title, body = "", f"{title}\n\n{body}"
        colour = PANEL_COLOURS.get(outcome.outcome, "red")
        console.print(Panel(Text(body), title=title or None, title_align="left", border_style=colour))
    else:
        print(fit(f"\n{outcome.headline()}\n{run_facts(outcome)}"))
    if steps := next_steps(outcome):
        print(f"\n{steps}")


def noise_text(noise: "Noise") -> str:
    """A measurement of the noise between seeds, and what the gate makes of it."""
    return (
        f"{noise.recipe} on {noise.corpus}: {len(noise.bpb)} seeds, each trained for {noise.share:.0%} of "
        f"the budget ({noise.machine.text()})\n"
        f"  bits per byte        {min(noise.bpb):.4f} to {max(noise.bpb):.4f}\n"
        f"  standard deviation   {noise.deviation:.4f}\n"
        f"  margin of the gate   {noise.margin:.4g} from now on, unless gate.min_gain is set"
    )


def run_facts(outcome: "Outcome") -> str:
    """The reason for the outcome, the scores, and how far the training came."""
    if outcome.outcome == "skipped":
        return f"  {outcome.reason}\n  Run the command again when that run has finished."
    training = f"  training: {outcome.training_line()}\n" if outcome.training else ""
    run = f"MLflow run {outcome.mlflow_run_id}" if outcome.mlflow_run_id else "no MLflow run yet"
    facts = (
        f"{outcome.metrics['parameters']:,} parameters; the run took {duration_text(outcome.seconds)}; {run}"
    )
    return f"  {outcome.reason}\n\n{_comparison(outcome)}\n{training}  {facts}"


def next_steps(outcome: "Outcome") -> str:
    """The commands and the address that are useful next; empty if the run was skipped."""
    if outcome.outcome == "skipped":
        return ""
    serves = outcome.outcome in ("promoted", "unchanged")
    model = "" if serves else f" --model {shlex.quote(outcome.model_path)}"
    anyway = f"{outcome.promote_command}   # promotes this model anyway" if outcome.promote_command else ""
    steps = [f"repartee chat{model}", "repartee models", anyway, outcome.mlflow_url]
    return "\n".join(["What now?", *(f"  {step}" for step in steps if step)])


def _comparison(outcome: "Outcome") -> str:
    """The figures of the new model, beside the champion's figures if the two models were compared."""
    model, champion = outcome.metrics, outcome.champion_metrics
    title = f"v{outcome.champion}" if outcome.champion else "champion"
    lines = [f"  {'':<31}{'this model':>12}{title:>10}"] if champion else []
    for name, key, form in FIGURES:
        before = f"{champion[key]:>10{form}}" if key in champion else ""
        lines.append(f"  {name:<31}{model[key]:>12{form}}{before}")
    baseline = f"{model['test_majority_accuracy']:.1%}"
    return "\n".join([*lines, f"  (accuracy of always guessing the commonest token: {baseline})"])
