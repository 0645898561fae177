"""The description of a run or a version in MLflow: a report on the model in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.markdown import markdown_table

MAX_CHARACTERS = 5000  # MLflow's limit for a version's description in databases other than SQLite
MAX_REPLIES = 6
SPACER = "&emsp;"  # MLflow leaves no space between the columns of a table, and none below a table
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
    training: str
    """How far the training came and why it ended, as a sentence."""
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

{report.training}

## Test split

{_spaced(report.figures)}
{SPACER}

![Loss and accuracy of the training]({report.picture})

## Replies (temperature 0)

{_spaced(markdown_table(rows))}
{SPACER}

## Data

The corpus is `{report.corpus}`. {report.lines_read:,} lines were read, and {report.rejected:,} were rejected.

{_spaced(markdown_table(report.splits))}
{SPACER}

## How to repeat this run

    {report.command}

The code is at commit `{report.commit}`.
"""


def without_spacers(description: str) -> str:
    """A description without the space that only MLflow's pages need."""
    return description.replace(f"{SPACER}\n\n", "").replace(f" {SPACER}", "")


def _spaced(table: str) -> str:
    """A Markdown table with a space after each cell except the last one of its row."""
    lines = table.splitlines(keepends=True)
    return "".join(
        line if line.startswith("| ---") else line.replace(" | ", f" {SPACER} | ") for line in lines
    )


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_REPLY_CHARACTERS else text[: MAX_REPLY_CHARACTERS - 3] + "..."
