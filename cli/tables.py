"""Tables: the results of the commands as a person reads them."""

import math
from typing import Any


def version_table(versions: list[dict[str, Any]]) -> str:
    """The registered versions, one a line."""
    if not versions:
        return "no model is registered yet; `repartee run` makes the first"
    lines = [f"{'version':<8}{'alias':<12}{'bits/byte':>10}{'accuracy':>10}  {'recipe':<10}{'corpus'}"]
    for row in versions:
        bpb, accuracy = (row["metrics"].get(key, math.nan) for key in ("test_bpb", "test_accuracy"))
        recipe, corpus = (row["tags"].get(key, "") for key in ("repartee.recipe", "repartee.corpus"))
        aliases = ", ".join(row["aliases"])
        lines.append(f"v{row['version']:<7}{aliases:<12}{bpb:>10.4f}{accuracy:>10.1%}  {recipe:<10}{corpus}")
    return "\n".join(lines)
