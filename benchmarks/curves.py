"""The plot of benchmarks/quality.py: bits per byte on the validation split against minutes of training."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Records
from models.evaluation.plots import GREY, NO_VERSION

LINES = {
    "ours": ("#c8472f", "-", "Repartee, small"),
    "trainer": ("#3b6ea5", "-", "transformers.Trainer, AdamW, GPT-2 config"),
    "article": ("#8a8a8a", "--", "the article's model, on its own lower-cased text"),
}
POINTS = 60  # the number of points in each mean curve


def draw(records: Records, png: Path) -> None:
    """Plot the mean over the seeds, with a band from the lowest to the highest value."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes: Any = figure.subplots()
    for name, (colour, dashes, label) in LINES.items():
        curves = [figures["curve"] for figures in records.all(f"{name}-[0-9]*").values()]
        if not all(curves) or not curves:
            continue
        minutes, low, mean, high = band(curves)
        axes.fill_between(minutes, low, high, color=colour, alpha=0.2, linewidth=0)
        seeds = f", mean of {len(curves)} seeds" if len(curves) > 1 else ""
        text = f"{label}: {mean[-1]:.2f}{seeds}"
        axes.plot(minutes, mean, dashes, color=colour, linewidth=2, label=text)
    axes.set_title("Validation split: bits per byte of the replies", fontsize=12, loc="left")
    axes.set_xlabel("minutes of training on two cores")
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY)
    axes.set_xlim(left=0)
    figure.legend(frameon=False, loc="outside lower left")
    figure.savefig(png, format="png", metadata=NO_VERSION)


def band(curves: list[list[tuple[float, float]]]) -> tuple[NDArray[np.float64], ...]:
    """The arrays (minutes, minimum, mean, maximum) over the time that all curves cover."""
    begin = max(curve[0][0] for curve in curves)
    end = min(curve[-1][0] for curve in curves)
    minutes = np.linspace(begin, end, POINTS)
    values = np.array([np.interp(minutes, *np.array(curve).T) for curve in curves])
    return minutes, values.min(axis=0), values.mean(axis=0), values.max(axis=0)
