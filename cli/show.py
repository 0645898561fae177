"""`repartee show`: everything that is known about one registered version."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.terminal.tables import moment_text
from cli.terminal.wrapping import fit
from console import supports_styles
from models.errors import InputError, TrackingUnavailable
from models.registry.description import without_spacers
from models.registry.reference import in_line, open_registry
from models.registry.tags import (
    CHANGES,
    CORPUS,
    FINGERPRINT,
    PROMOTED_AT,
    RECIPE,
    REPLACED,
    RUN_NAME,
    TAKEN_OUT,
)
from models.registry.version import Version
from models.registry.versions import Registry
from settings import Settings
from tasks.run_page.prefect_runs import prefect_run
from tasks.store.artifact import stored_outputs

PAGE_LINK = re.compile(r"\[([^]]*)\]\((#/[^)]*)\)( \| )?")  # an address relative to that of MLflow's server
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
    dashboard: str = ""
    """The address at which `repartee up` shows the runs of this home."""

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
        run = prefect_run(tags, self.dashboard)
        prefect = f"{run.name}, {run.url}{run.condition}" if run else ""
        facts = {
            "recipe": f"{tags.get(RECIPE, '')} on {tags.get(CORPUS, '')}" if RECIPE in tags else "",
            "changes": tags.get(CHANGES, ""),
            "registered": f"{version.created:%Y-%m-%d %H:%M} UTC",
            "champion": f"since {moment_text(tags[PROMOTED_AT])}" if PROMOTED_AT in tags else "",
            "replaced": f"v{tags[REPLACED]}" if tags.get(REPLACED) else "",
            "taken out": _taken_out_text(tags.get(TAKEN_OUT, "")),
            "trained by": prefect or tags.get(RUN_NAME, ""),
            "MLflow": f"run {version.run_id}, {self.run_url}",
            "files": self.files,
            "data": f"repartee data {self.data}" if self.data else "",
        }
        return {label: value for label, value in facts.items() if value}

    def report(self) -> str:
        """The description of the version in Markdown, without pictures. Links to MLflow's pages are absolute;
        if there is no MLflow server, they are left out."""
        link = "" if self.server is None else rf"[\1]({self.server}/\2)\3"
        return PAGE_LINK.sub(link, PICTURE.sub("", without_spacers(self.version.description)))


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
        run_tags=_tags_of_run(registry, version),
        dashboard=settings.dashboard,
    )


def _tags_of_run(registry: Registry, version: Version) -> dict[str, str]:
    run = registry.run_or_none(version.run_id) if version.run_id else None
    return {} if run is None else dict(run.data.tags)


def _taken_out_text(tag: str) -> str:
    """The tag TAKEN_OUT, which is a moment and a reason, for people."""
    moment, colon, why = tag.partition(": ")
    return f"{moment_text(moment)}: {why}" if colon else tag


def _data_of(home: Path, version: Version) -> str | None:
    """The fingerprint of the examples on which the version was trained, if the store still has them."""
    trained = [
        run for run in stored_outputs(home, "train") if run.fingerprint == version.tags.get(FINGERPRINT)
    ]
    digests = {run.inputs.get("export") for run in trained}
    return next((data.fingerprint for data in stored_outputs(home, "export") if data.digest in digests), None)


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
