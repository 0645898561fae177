"""`repartee show`: what one registered version is, and how good (provenance/: where it comes from)."""

import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.provenance.service import Period, periods_of
from cli.terminal.tables import moment_text
from cli.terminal.wrapping import fit
from cli.versions import run_tags
from console import supports_styles
from models.errors import InputError, TrackingUnavailable
from models.registry.description import without_spacers
from models.registry.reference import in_line, open_registry
from models.registry.tags import (
    CHANGES,
    CORPUS,
    FINGERPRINT,
    RECIPE,
    TAKEN_OUT,
)
from models.registry.version import Version
from settings import Settings
from tasks.provenance.origin import origin_of

PAGE_LINK = re.compile(r"\[([^]]*)\]\((#/[^)]*)\)( \| )?")  # an address relative to that of MLflow's server
RUN_PAGE = r"\[[^]]*\]\([^)]*/runs/flow-run/[^)]*\)"
PREFECT_LINK = re.compile(rf" \| {RUN_PAGE}|{RUN_PAGE}( \| )?")
EMPTY_LINES = re.compile(r"\n{3,}")
PICTURE = re.compile(r"^!\[.*\n", re.MULTILINE)


@dataclass(frozen=True)
class ShownVersion:
    """A registered version and its origin."""

    line: str
    version: Version
    run_url: str
    files: str
    """The folder or the address of the files, or why there are none."""
    data: str | None
    """The fingerprint of the prepared data, if they are still in the store of this home."""
    server: str | None
    """The address of the MLflow server, without its login; None for a database without a server."""
    run_tags: dict[str, str] = field(default_factory=dict)
    """The tags of the MLflow run that trained the version; empty if the run was deleted."""
    periods: list[Period] = field(default_factory=list)
    """The times in which the version was the champion, the latest first."""

    def to_json(self) -> dict[str, Any]:
        return {
            "line": self.line,
            "version": self.version.number,
            "aliases": list(self.version.aliases),
            "created": self.version.created.isoformat(),
            "metrics": self.version.metrics,
            "tags": self.version.tags,
            "run_id": self.version.run_id,
            "run_url": self.run_url,
            "path": self.files,
            "data": self.data,
            "report": self.report(),
        }

    def facts(self) -> dict[str, str]:
        """The lines at the top of the text, as values by label; empty values are left out."""
        version, tags = self.version, {**self.run_tags, **self.version.tags}
        facts = {
            "recipe": f"{tags.get(RECIPE, '')} on {tags.get(CORPUS, '')}" if RECIPE in tags else "",
            "changes": tags.get(CHANGES, ""),
            "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
            "champion": "; ".join(map(_period_text, self.periods)),
            "taken out": _taken_out_text(tags.get(TAKEN_OUT, "")),
            "files": self.files,
            "data": f"repartee data {self.data}" if self.data else "",
            "origin": f"repartee lineage {shlex.quote(f'{self.line}@{version.number}')}",
        }
        return {label: value for label, value in facts.items() if value}

    def report(self) -> str:
        """The description of the version in Markdown, without pictures. Links to MLflow's pages are absolute;
        if there is no MLflow server, they are left out. Those to Prefect's pages are left out, because
        `repartee lineage` shows them."""
        link = "" if self.server is None else rf"[\1]({self.server}/\2)\3"
        text = PREFECT_LINK.sub("", PICTURE.sub("", without_spacers(self.version.description)))
        return EMPTY_LINES.sub("\n\n", PAGE_LINK.sub(link, text)).lstrip("\n")


def describe_version(ref: str, line: str | None) -> ShownVersion:
    """The version that the reference names.

    Raises:
        InputError: there is no such version, or MLflow cannot be used.
    """
    settings = Settings()
    registry, number_or_alias = in_line(ref, open_registry(settings, line))
    version = registry.find(number_or_alias)
    try:
        files = registry.location(version)
    except TrackingUnavailable:
        raise
    except InputError as error:  # the rest of the version is worth showing
        files = str(error)
    return ShownVersion(
        line=registry.model,
        version=version,
        run_url=registry.run_url(version.run_id),
        files=files,
        data=_data_of(settings.root, version),
        server=registry.server,
        run_tags=run_tags(registry, version),
        periods=periods_of(registry.history(), version.number),
    )


def _period_text(period: Period) -> str:
    """A time in which the version was the champion."""
    before = f" instead of v{period.instead_of}" if period.instead_of else ""
    if period.until is None:
        return f"since {moment_text(period.since)}{before}"
    return (
        f"from {moment_text(period.since)}{before} to {moment_text(period.until)}, then v{period.replaced_by}"
    )


def _taken_out_text(tag: str) -> str:
    """The tag TAKEN_OUT, which is a moment and a reason, for people."""
    moment, colon, why = tag.partition(": ")
    return f"{moment_text(moment)}: {why}" if colon else tag


def _data_of(home: Path, version: Version) -> str | None:
    """The fingerprint of the examples on which the version was trained, if the store still has them."""
    origin = origin_of(home, version.tags.get(FINGERPRINT, ""))
    examples = origin and origin.outputs.get("export")
    return examples.fingerprint if examples else None


def print_version(shown: ShownVersion) -> None:
    """Print the version. A terminal shows its report as formatted text; other outputs get the Markdown."""
    aliases = f" ({', '.join(shown.version.aliases)})" if shown.version.aliases else ""
    print(f"{shown.line} v{shown.version.number}{aliases}")
    for label, value in shown.facts().items():
        print(fit(f"  {label:<12}{value}"))
    report = shown.report()
    if not report:
        return
    print()
    if not supports_styles(sys.stdout):
        print(report)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(report))
