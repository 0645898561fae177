"""The comparison of two versions as text for the terminal."""

import textwrap
from typing import Any

from models.evaluation.figures import WORDS
from models.quantities import count_text

SHOWN_REPLIES = 6
MAX_NAME = 48  # characters; the values of a longer name are on the next line
MAX_VALUE = 60  # characters; what is longer is cut


def comparison_text(compared: dict[str, Any]) -> str:
    """What differs between the versions, their figures, the gain, and some of their replies."""
    first, second = (_name(compared[side]) for side in ("first", "second"))
    return "\n\n".join(
        part
        for part in (
            f"{first} and {second}",
            _origin_text(compared["origin"]),
            _figure_text(compared, first, second),
            _gain_text(compared, first, second),
            _reply_text(compared["replies"], first, second),
        )
        if part
    )


def _name(side: dict[str, Any]) -> str:
    aliases = f" ({', '.join(side['aliases'])})" if side["aliases"] else ""
    return f"v{side['version']}{aliases}"


def _origin_text(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "settings, data and code: no difference is recorded"
    width = min(MAX_NAME, max(len(row["what"]) for row in rows))
    lines = []
    for row in rows:
        name, values = row["what"], f"{_cut(row['first'])} -> {_cut(row['second'])}"
        lines += [f"  {name:<{width}}  {values}"] if len(name) <= width else [f"  {name}", f"    {values}"]
    return "\n".join(["settings, data and code that differ", *lines])


def _cut(value: str) -> str:
    if not value:
        return "(none)"
    return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 3]}..."


def _figure_text(compared: dict[str, Any], first: str, second: str) -> str:
    rows = [
        (WORDS.get(row["figure"], row["figure"]), row["first"], row["second"]) for row in compared["figures"]
    ]
    if not rows:
        return ""
    width = max(len(name) for name, *_ in rows)
    column = max(len(first), len(second), 12)
    head = f"  {'figures':<{width}}  {first:>{column}}  {second:>{column}}"
    return "\n".join(
        [head, *(f"  {name:<{width}}  {_number(a):>{column}}  {_number(b):>{column}}" for name, a, b in rows)]
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def _gain_text(compared: dict[str, Any], first: str, second: str) -> str:
    gain = compared["gain"]
    if gain is None:
        return f"no gain can be computed: {compared['why_no_gain']}"
    fewer = "fewer" if gain["bits"] >= 0 else "more"
    return (
        f"{second} needs {abs(gain['bits']):.4f} bits per byte {fewer} than {first} on the same test "
        f"replies; the gain lies between {gain['lower']:.4f} and {gain['upper']:.4f} with a confidence of "
        f"{gain['confidence']:.0%} ({count_text(gain['groups'], 'groups')})"
    )


def _reply_text(rows: list[dict[str, Any]], first: str, second: str) -> str:
    if not rows:
        return ""
    shown = []
    for row in rows[:SHOWN_REPLIES]:
        said = [("in the corpus", row["in_the_corpus"])] if row["in_the_corpus"] else []
        replies = [(first, row["first"]), (second, row["second"]), *said]
        width = max(len(name) for name, _ in replies)
        lines = [f"  {name:<{width}}  {' '.join(text.split()) or '(nothing)'}" for name, text in replies]
        shown.append("\n".join([textwrap.indent(row["context"], "> "), *lines]))
    left = len(rows) - len(shown)
    more = [f"({count_text(left, 'more replies')} with --json)"] if left else []
    return "\n\n".join(["replies (greedy)", *shown, *more])
