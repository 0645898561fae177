"""Contract: compares the data of a run with those last accepted, before anything is trained on them.

Data within the limits become the accepted data of their model line and corpus, and so do the first data, data
with other settings, and data of a run with the setting `contract.accept`.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect.artifacts import create_markdown_artifact

from corpus.contract.accepted import Accepted, accepted_file, read_accepted, write_accepted
from corpus.contract.comparison import Difference, compare, too_large
from corpus.contract.config import ContractConfig
from corpus.contract.figures import Figures, read_figures
from corpus.download import DownloadConfig
from models.errors import DataRejected
from models.markdown import markdown_table
from models.registry.tags import CORPUS
from tasks.prefect_api.recorded import recorded
from tasks.prefect_api.reporting import key_prefix, report
from tasks.store.artifact import Artifact
from tasks.store.run_context import RunContext
from tasks.store.stage import config_differences

log = logging.getLogger(__name__)

REMEDY = "repair the data, or accept them with --set contract.accept=true"
# The other settings of these stages decide the meaning of the figures.
MEANINGLESS = {
    "download": {"corpus"},  # another corpus is compared with its own data
    "parse": {"max_reject_share"},
    "clean": {"validation_share", "test_share"},
}


@recorded("contract")
def contract(run: RunContext, parse: Artifact, clean: Artifact) -> None:
    """
    Raises:
        DataRejected: the data differ too much from the accepted data, and the run does not accept them.
    """
    download, config = run.settings["download"], run.settings["contract"]
    assert isinstance(download, DownloadConfig) and isinstance(config, ContractConfig)
    file = accepted_file(run.home, run.registry.model, download.corpus)
    figures, settings = read_figures(clean.path, parse.path), settings_of(run)
    accepted = read_accepted(file)
    if accepted and is_comparable(accepted, figures, settings):
        check(run, accepted, compare(accepted.figures, figures), is_accepted=config.accept)
    date = datetime.now(UTC).date().isoformat()
    write_accepted(file, Accepted(run=run.name, date=date, settings=settings, figures=figures))


def settings_of(run: RunContext) -> dict[str, Any]:
    """The settings on which the meaning of the figures depends, by stage."""
    return {
        stage: run.settings[stage].model_dump(mode="json", exclude=others)
        for stage, others in MEANINGLESS.items()
    }


def is_comparable(accepted: Accepted, figures: Figures, settings: dict[str, Any]) -> bool:
    """Whether the figures have the same meaning; if not, the log says why."""
    reasons = config_differences("", accepted.settings, settings)
    if accepted.figures.format != figures.format:
        reasons = ["this release of Repartee computes other figures"]
    if reasons:
        log.info("contract: the data are not compared with those accepted before: %s", reasons[0])
    return not reasons


def check(
    run: RunContext, accepted: Accepted, differences: Sequence[Difference], *, is_accepted: bool
) -> None:
    """Show the differences.

    Raises:
        DataRejected: a difference is too large, and the data are not accepted for all that.
    """
    found = too_large(differences)
    origin = f"the data that {accepted.run} accepted on {accepted.date}"
    verdict = f"{run.tags[CORPUS]}: the data are within the limits around {origin}"
    if found:
        verdict = f"{run.tags[CORPUS]}: the data differ too much from {origin}, in {found[0].text()}"
        if others := ", ".join(each.figure for each in found[1:]):
            verdict += f", and also in {others}"
        for each in differences:
            log.log(logging.WARNING if each.is_too_large else logging.INFO, "contract: %s", each.text())
    report(
        create_markdown_artifact,
        f"# The data contract\n\n{verdict}.\n\n{table(differences)}",
        key=f"{key_prefix(run.registry.model)}-contract",
        description=verdict,
    )
    if found and not is_accepted:
        raise DataRejected(f"{verdict}; {REMEDY}")
    log.info("contract: %s", f"{verdict}; they are accepted" if found else verdict)


def table(differences: Sequence[Difference]) -> str:
    """The differences as a Markdown table."""
    return markdown_table(
        [
            {
                "figure": each.figure,
                "accepted data": each.accepted,
                "new data": each.new,
                "difference": each.difference,
                "limit": each.limit,
                "verdict": "**too large**" if each.is_too_large else "within the limit",
            }
            for each in differences
        ]
    )
