"""The description of a run or a version in MLflow: a report on the model in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.markdown import markdown_table

MAX_CHARACTERS = 5000  # MLflow's limit for a version's description in databases other than SQLite
MAX_REPLIES = 6
MAX_REPLY_CHARACTERS = 160


@dataclass(frozen=True)
class RunReport:
    """The content of the description."""

    outcome: Literal["promoted", "refused"]
    reason: str
    links: Mapping[str, str]
    """The text of each link, with its address. Addresses of MLflow's pages are relative (see pages.py)."""
    figures: str
    """The scores of the model and the champion, as a Markdown table."""
    picture: str
    """The address of the loss and accuracy plot."""
    replies: Sequence[tuple[str, str]]
    """Contexts, and the model's replies to them."""
    corpus: str
    splits: Sequence[Mapping[str, Any]]
    """One table row per split."""
    lines_read: int
    rejected: int
    command: str
    """The command that repeats the run."""
    commit: str


def describe(report: RunReport) -> str:
    """The report as Markdown of at most MAX_CHARACTERS; the last replies are left out if they do not fit."""
    for num_replies in range(min(MAX_REPLIES, len(report.replies)), -1, -1):
        text = _markdown(report, report.replies[:num_replies])
        if len(text) <= MAX_CHARACTERS:
            return text
    return text[:MAX_CHARACTERS]


def _markdown(report: RunReport, replies: Sequence[tuple[str, str]]) -> str:
    links = " | ".join(f"[{text}]({address})" for text, address in report.links.items())
    rows = [{"context": _shortened(said), "reply": _shortened(reply)} for said, reply in replies]
    return f"""**{report.outcome.capitalize()}**: {report.reason}

{links}

## Test split

{report.figures}
![Loss and accuracy of the training]({report.picture})

## Replies (temperature 0)

{markdown_table(rows)}
## Data

The corpus is `{report.corpus}`. {report.lines_read:,} lines were read, and {report.rejected:,} were rejected.

{markdown_table(report.splits)}
## How to repeat this run

    {report.command}

The code is at commit `{report.commit}`.
"""


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_REPLY_CHARACTERS else text[: MAX_REPLY_CHARACTERS - 3] + "..."
