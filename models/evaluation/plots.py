"""Plots of a training run's loss and accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.metrics_log import STEP, VALIDATION, Reader, of_kind

Point = tuple[int, float]

TRAIN_COLOUR, VALIDATION_COLOUR, GREY = "#8fb3d9", "#c8472f", "#6b6b6b"
NO_VERSION = {"Software": None}  # leave out matplotlib's version, so that equal curves give equal files


def loss_curves(metrics_jsonl: Path, png: Path) -> None:
    """Plot loss (left) and accuracy (right) against steps, from a trainer's metrics.jsonl."""
    # A bare Figure is drawn with Agg, whereas pyplot would keep each figure in memory and look for a display.
    from matplotlib.figure import Figure  # slow to import

    lines = Reader(metrics_jsonl).read()
    figure = Figure(figsize=(8, 3.6), dpi=100, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, key, title in (
        (loss, "loss", "Loss (nats per reply token)"),
        (accuracy, "accuracy", "Accuracy (reply tokens guessed right)"),
    ):
        _panel(axes, _points(lines, STEP, key), _points(lines, VALIDATION, key), title)
    accuracy.set_ylim(bottom=0)
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    figure.suptitle(_title(lines), fontsize=11, color=GREY)
    partial = png.with_name(png.name + ".partial")
    figure.savefig(partial, format="png", metadata=NO_VERSION)
    partial.replace(png)


def _points(lines: Sequence[dict[str, Any]], kind: str, key: str) -> list[Point]:
    """Return pairs (step, value) in order. A step that was logged again after a resume occurs once."""
    lines_with_key = [line for line in of_kind(lines, kind) if line.get(key) is not None]
    return sorted({line["step"]: line[key] for line in lines_with_key}.items())


def _panel(axes: Any, train: list[Point], validation: list[Point], title: str) -> None:
    axes.set_title(title, fontsize=12, loc="left")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.02, 0.08)
    if not train and not validation:
        axes.text(0.5, 0.5, "no steps yet", ha="center", va="center", color=GREY, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    if train:
        steps, values = zip(*train, strict=True)
        marker = "o" if len(train) == 1 else ""  # a line with a single point is invisible without a marker
        axes.plot(steps, values, color=TRAIN_COLOUR, linewidth=1.5, marker=marker, label="training")
    if validation:
        steps, values = zip(*validation, strict=True)
        axes.plot(
            steps,
            values,
            color=VALIDATION_COLOUR,
            linewidth=2,
            marker="o",
            markersize=4,
            label="validation",
        )
    axes.set_xlim(left=0)
    axes.legend(frameon=False)


def _title(lines: Sequence[dict[str, Any]]) -> str:
    validations = of_kind(lines, VALIDATION)
    if not validations:
        return "Training"
    last = validations[-1]
    parts = [f"loss {last['loss']:.3f}", f"accuracy {last['accuracy']:.1%}"]
    if last.get("bpb") is not None:
        parts.append(f"{last['bpb']:.3f} bits per byte")
    return f"Validation at step {last['step']:,}: {', '.join(parts)}"
