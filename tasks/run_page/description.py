"""Builds the description of a run or version that MLflow shows, from the outputs of the stages."""

from collections.abc import Sequence

from models.data.overview import split_rows
from models.evaluation.figures import figure_table
from models.evaluation.report import REPORT, Report, Sample
from models.evaluation.verdict import Verdict
from models.registry.description import MAX_REPLIES, RunReport, describe
from models.registry.pages import artifact_file, version_page
from models.registry.tags import COMMIT, CORPUS
from tasks.run_page.contents import (
    CONVERSATION_TABLE,
    FACT_TABLE,
    GROUP_TABLE,
    REJECT_TABLE,
    SPLIT_TABLE,
    Outputs,
    summary_of,
)
from tasks.run_page.prefect_runs import run_links
from tasks.run_page.training import champion_title, steps_of_version, training_line, training_text
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
            links=links_of(run, run_id, outputs, verdict, version),
            figures=figure_table(
                report.metrics, champion, title=champion_title(verdict.champion, was_replaced=verdict.promote)
            ),
            training=training_sentence(run, outputs, verdict),
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


def training_sentence(run: RunContext, outputs: Outputs, verdict: Verdict) -> str:
    """How far the training came and why it ended, and for how many steps the champion was trained."""
    text = training_text(summary_of(outputs.train.path), run.params)
    steps = steps_of_version(run.registry, verdict.champion)
    return f"Training: {training_line(text, verdict.champion, steps)}."


def links_of(
    run: RunContext, run_id: str, outputs: Outputs, verdict: Verdict, version: int | None
) -> dict[str, str]:
    """The addresses of pages that a reader of the description may want to open, by the text of the link.

    Raises:
        TrackingUnavailable, InputError: MLflow cannot be used; see `Connection.writing`.
    """
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
    created = run.registry.run_or_none(run_id)
    return links | run_links(
        created.data.tags if created else run.tags,
        run.tags,
        run.dashboard,
        outcome="promoted" if verdict.promote else "refused",
        was_reused=outputs.train.status == "reused",
    )


def shown_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Replies to the fixed openers, which have no original reply, then to contexts of the test split."""
    openers = [sample for sample in samples if not sample.said][: MAX_REPLIES // 2]
    contexts = {sample.context[-1] for sample in openers}
    # Of a longer context only the last turn is shown, so the same turn would look like a repeated row.
    others = []
    for sample in samples:
        if sample.said and sample.context[-1] not in contexts:
            contexts.add(sample.context[-1])
            others.append(sample)
    return [*openers, *others][:MAX_REPLIES]
