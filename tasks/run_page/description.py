"""Builds the description of a run or version that MLflow shows, from the outputs of the stages."""

from collections.abc import Sequence

from models.data.overview import split_rows
from models.evaluation.report import REPORT, Report, Sample, figure_table
from models.evaluation.verdict import Verdict
from models.registry.description import MAX_REPLIES, RunReport, describe
from models.registry.pages import artifact_file, version_page
from models.registry.tags import COMMIT, CORPUS, FLOW_RUN_URL
from tasks.run_page.contents import (
    CONVERSATION_TABLE,
    FACT_TABLE,
    GROUP_TABLE,
    REJECT_TABLE,
    SPLIT_TABLE,
    Outputs,
)
from tasks.store.run_context import RunContext

PICTURE = "report/loss.png"
SHOWN_COUNTS = ("split", "conversations", "turns", "examples", "tokens")
TABLES = {
    "counts of the splits": SPLIT_TABLE,
    "rejected lines": REJECT_TABLE,
    "ten conversations": CONVERSATION_TABLE,
    "scores by group": GROUP_TABLE,
    "further figures": FACT_TABLE,
}


def description(
    run: RunContext, run_id: str, outputs: Outputs, verdict: Verdict, *, version: int | None
) -> str:
    """The description of a run or a version, as MLflow shows it.

    If `version` is given, the text describes the run that registered this version. Otherwise it describes a
    refused run, or the version that is about to be registered.

    Raises:
        TrackingUnavailable, InputError: MLflow cannot be used; see `Connection.writing`.
    """
    report, data = Report.read(outputs.evaluate.path / REPORT), outputs.data
    champion = verdict.champion_score.figures() if verdict.champion_score else None
    return describe(
        RunReport(
            outcome="promoted" if verdict.promote else "refused",
            reason=verdict.reason,
            links=links_of(run, run_id, verdict, version),
            figures=figure_table(report.metrics, champion),
            picture=artifact_file(run_id, PICTURE),
            replies=[(sample.context[-1], sample.reply) for sample in shown_samples(report.samples)],
            corpus=run.tags[CORPUS],
            splits=[{key: row[key] for key in SHOWN_COUNTS} for row in split_rows(data)],
            lines_read=data.lines_read,
            rejected=sum(data.rejected.values()),
            command=run.command,
            commit=run.tags.get(COMMIT, "unknown"),
        )
    )


def links_of(run: RunContext, run_id: str, verdict: Verdict, version: int | None) -> dict[str, str]:
    """The addresses of pages that a reader of the description may want to open, by the text of the link."""
    model = run.registry.model
    links: dict[str, str] = {}
    if version is not None:
        links[f"version {version}"] = version_page(model, version)
    elif verdict.promote:  # the description of a new version
        links["run in MLflow"] = run.registry.page_of_run(run_id)
    if verdict.champion is not None:
        role = "previous champion" if verdict.promote else "champion"
        links[f"{role} v{verdict.champion}"] = version_page(model, verdict.champion)
    links |= {text: run.registry.page_of_run(run_id, path) for text, path in TABLES.items()}
    if url := run.tags.get(FLOW_RUN_URL):
        links["run in Prefect"] = url
    return links


def shown_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Replies to the fixed openers, which have no original reply, then to contexts of the test split."""
    half = MAX_REPLIES // 2
    openers = [sample for sample in samples if not sample.said]
    return [*openers[:half], *(sample for sample in samples if sample.said)][:MAX_REPLIES]
