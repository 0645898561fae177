"""Tables in Markdown, for the dashboard, for MLflow and for reports."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows that all have the same keys; "none" if there are no rows.

    Integers are written with thousands separators, other numbers with four decimal places. A column is
    right-aligned if its first value is a number.
    """
    if not rows:
        return "none\n"
    head = list(rows[0])
    align = ["---:" if isinstance(rows[0][key], int | float) else "---" for key in head]
    lines = [head, align, *([_cell(row[key]) for key in head] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value).replace("|", "\\|").replace("\n", "<br>")
