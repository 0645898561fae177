"""Tables: the results of the verbs as readable text. cli/terminal/summary.py formats the outcome of a run."""

import math
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from deployments.disk import size_text
from models.quantities import count_text
from models.registry.pages import pages_of
from models.registry.tags import CORPUS, RECIPE

if TYPE_CHECKING:  # these modules load Prefect, which not every verb needs
    from deployments.doctor.examination import CheckResult
    from models.data.overview import DataOverview
    from tasks.plan import PlannedStage


def stage_table(stages: list[dict[str, Any]]) -> str:
    """The stages of a run, one per line."""
    lines = [f"  {'stage':<12}{'status':<8}{'seconds':>8}{'rows':>10}  why"]
    for row in stages:
        figures = f"{row['seconds']:>8.1f}{row['rows']:>10,}"
        lines.append(f"  {row['name']:<12}{row['status']:<8}{figures}  {row['why']}")
    return "\n".join(lines)


def plan_table(stages: "list[PlannedStage]") -> str:
    """What a run would do with each stage, one stage per line."""
    return "\n".join(f"  {stage.name:<12}{stage.action:<7}{stage.why}" for stage in stages)


def data_text(fingerprint: str, data: "DataOverview") -> str:
    """The overview of prepared data: a table of the splits, a table of counts, and some conversations."""
    from models.data.overview import count_rows, reject_rows, sample_rows

    conversations = [
        f"{row['conversation']} ({row['split']})\n{textwrap.indent(row['text'], '  ')}"
        for row in sample_rows(data)
    ]
    return "\n\n".join(
        [
            f"examples {fingerprint}, built from {data.lines_read:,} lines",
            text_table(count_rows(data)),
            text_table(reject_rows(data)) or "no line was rejected, and nothing was removed",
            *([f"clean: {data.balance.text()}"] if data.balance else []),
            *conversations,
        ]
    )


def text_table(rows: list[dict[str, Any]]) -> str:
    """A table of rows that all have the same keys, with a column for each key. Numbers are right-aligned."""
    if not rows:
        return ""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def figure_lines(figures: dict[str, float]) -> str:
    """The scores of a model, one per line."""
    return "\n".join(f"{key:<24}{value:.4f}" for key, value in figures.items())


def version_table(listed: dict[str, Any]) -> str:
    """The registered versions of a model line, one per row, and the names of the other lines."""
    others = [line for line in listed["lines"] if line != listed["line"]]
    hint = f"\nother model lines: {', '.join(others)} (repartee models --line NAME)" if others else ""
    if not listed["models"]:
        return f"no model is registered yet; `repartee run` registers the first one{hint}"
    lines = [f"{'version':<8}{'alias':<12}{'bits/byte':>10}{'accuracy':>10}  {'recipe':<10}{'corpus'}"]
    for row in listed["models"]:
        bpb, accuracy = (row["metrics"].get(key, math.nan) for key in ("test_bpb", "test_accuracy"))
        recipe, corpus = (row["tags"].get(key, "") for key in (RECIPE, CORPUS))
        aliases = ", ".join(row["aliases"])
        lines.append(f"v{row['version']:<7}{aliases:<12}{bpb:>10.4f}{accuracy:>10.1%}  {recipe:<10}{corpus}")
    return "\n".join(lines) + hint


def upgrade_lines(upgrades: list[dict[str, Any]]) -> str:
    """What was done with each version that was not an MLflow model, one version per line."""
    if not upgrades:
        return "nothing to upgrade"
    return "\n".join(
        f"v{row['version']} "
        + ("is an MLflow model now" if row["upgraded"] else f"is unchanged: {row['why']}")
        for row in upgrades
    )


def prune_table(listed: dict[str, Any]) -> str:
    """What can be deleted, or was deleted, one kind per line."""
    days = f"{listed['days']:g} days"
    if not listed["kinds"]:
        return f"nothing to delete: everything is needed or has been used in the last {days}"
    head = f"no run has used these for {days}, and no model with an alias was made from them:"
    lines = [
        f"  {row['what']:<26}{row['count']:>8,}  {size_text(row['size_bytes']):>10}"
        for row in listed["kinds"]
    ]
    size = size_text(sum(row["size_bytes"] for row in listed["kinds"]))
    end = (
        f"all of this is deleted, and {size} are free again"
        if listed["deleted"]
        else f"nothing is deleted yet; `repartee prune --days {listed['days']:g} --yes` deletes all of this "
        f"and frees {size}"
    )
    return "\n".join([head, *lines, end])


def promotion_text(promotion: dict[str, Any]) -> str:
    """The result of a manual promotion or rollback in one line."""
    version, previous = promotion["version"], promotion["previous"]
    if version == previous:
        return f"v{version} is the champion already"
    before = f" instead of v{previous}" if previous else ""
    return f"v{version} is the champion now{before}; `repartee rollback` undoes the change"


def history_table(entries: list[dict[str, Any]], until: str | None = None) -> str:
    """The changes of the champion, one per line; `until` is the moment up to which they are listed."""
    if not entries and until:
        return f"no version was the champion at {until} or before"
    if not entries:
        return "no version has been the champion yet; `repartee run` promotes the first one"
    lines = [f"{'since':<22}{'version':<9}{'before':<8}why"]
    for entry in entries:
        before = f"v{entry['previous']}" if entry["previous"] else "-"
        since = moment_text(entry["at"])
        lines.append(f"{since:<22}v{entry['version']:<8}{before:<8}{entry['why']}")
    return "\n".join(lines)


def status_table(status: dict[str, Any]) -> str:
    """The state of a home, one subject per line."""
    is_up = bool(status["services"])
    disk = status["disk"]
    used, free = size_text(disk["used_bytes"]), size_text(disk["free_bytes"])
    training = status["training"]
    lines = [
        ("home", status["home"]),
        ("champion", _champion_text(status)),
        *(("", _of_line(each)) for each in status["champions"] if each != status["champion"]),
        *(("trunk", _trunk_text(each)) for each in status.get("trunks", [])),
        ("now", f"{training} is training" if training else "no training run is in progress"),
        *_run_lines(status, is_up),
        *((name, _service_text(name, service)) for name, service in status["services"].items()),
        *([] if is_up else [("services", "down; `repartee up` starts them")]),
        ("disk", f"{used} used by this home, {free} free"),
    ]
    return "\n".join(f"  {name:<10}{text}" for name, text in lines)


NO_SERVER = "not known: no Prefect server answers (`repartee up` starts one)"


def _run_lines(status: dict[str, Any], is_up: bool) -> list[tuple[str, str]]:
    """The last run and the next runs."""
    if status["last_run"] is None and status["next_runs"] is None and not is_up:
        return [("runs", NO_SERVER)]
    last = ("last run", _last_run_text(status["last_run"], is_up))
    return [last, *_next_run_lines(status["next_runs"], status["scheduled"])]


def _champion_text(status: dict[str, Any]) -> str:
    champion = status["champion"]
    if champion:
        return _of_line(champion)
    if status["unknown"]:
        return f"not known: {status['unknown']}"
    return "none yet: `repartee run` promotes the first one"


def _of_line(champion: dict[str, Any]) -> str:
    """The champion of a model line."""
    bpb = f", {champion['test_bpb']:.4f} bits per byte" if champion["test_bpb"] else ""
    training = f"{champion['recipe']} on {champion['corpus']}"
    return f"{champion['line']} v{champion['version']} {_since(champion['since'])}, {training}{bpb}"


def _trunk_text(trunk: dict[str, Any]) -> str:
    """How many nights a trunk has, and whether more nights still help."""
    if trunk["damage"]:
        return f"{trunk['damage']}; the next night begins again (`repartee doctor`)"
    nights = count_text(trunk["nights"], "nights")
    bpb = f", {trunk['validation_bpb']:.4f} bits per byte in validation" if trunk["validation_bpb"] else ""
    stale = f", {count_text(trunk['stale'], 'nights')} in a row no better" if trunk["stale"] else ""
    return f"{trunk['line']}, {nights} of {trunk['network']} {_since(trunk['since'])}{bpb}{stale}"


def _last_run_text(run: dict[str, Any] | None, is_up: bool) -> str:
    if run is None:
        return "none so far" if is_up else NO_SERVER
    from flows.lifecycle.outcome import without_outcome  # loads libraries that not every verb needs

    name, why = without_outcome(run["name"]), run["why"] or "without a message"
    if run["state"] == "Completed" and run["why"]:
        text = f"{why[0].lower()}{why[1:]}"
    else:
        text = f"{run['state'].lower()}: {why}" if run["state"] else why
    ended = f" ({moment_text(run['ended'])})" if run["ended"] else ""
    return f"{name}{ended} {text}"


def _next_run_lines(runs: list[dict[str, Any]] | None, is_scheduled: bool | None) -> list[tuple[str, str]]:
    if runs:
        texts = [
            f"{moment_text(run['at'], run['timezone'])}, schedule {run['schedule']}, line {run['line']}, "
            f"{run['what']}"
            for run in runs
        ]
        return list(zip(["next runs", *[""] * len(texts)], texts, strict=False))
    if runs is None:
        return [("next runs", NO_SERVER)]
    if is_scheduled:
        return [("next runs", "not planned yet; the server plans them within a minute")]
    return [("next runs", "none: every schedule is paused (`repartee schedule list`)")]


def moment_text(moment: str, timezone: str = "UTC") -> str:
    """A moment (ISO 8601) to the minute with its time zone, such as `2026-11-29 03:00 Europe/Berlin`.

    Args:
        timezone: the name of the time zone in which the moment is written.
    """
    return f"{moment[:16].replace('T', ' ')} {timezone}"


def _service_text(name: str, service: dict[str, Any]) -> str:
    health = ", starting" if service["starting"] else "" if service["healthy"] else ", DOES NOT ANSWER"
    address = service["address"]
    if name == "mlflow":
        address = f"{address}/{service['page']}" if "page" in service else pages_of(address)
    return f"{address or 'running'}{health} (process {service['pid']})"


def _since(moment: str | None) -> str:
    if not moment:
        return ""
    minutes = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() / 60)
    if minutes < 1:
        return f"since {moment_text(moment)}"
    if minutes < 120:
        age = count_text(minutes, "minutes")
    else:
        hours = round(minutes / 60)
        age = f"{hours / 24:.0f} days" if hours > 48 else f"{hours} hours"
    return f"since {moment_text(moment)} ({age})"


def check_text(result: "CheckResult") -> str:
    """The result of one check of the doctor: a line for each fault, and its remedy on the next line."""
    name = f"{result.check:<14}"
    lines = [f"  fixed  {name}{what}" for what in result.fixed]
    for fault in result.faults:
        lines.append(f"  FAULT  {name}{fault.what}")
        if fault.remedy:
            fix = "   (or `repartee doctor --fix`)" if fault.fix else ""
            lines.append(f"         {'':<14}remedy: {fault.remedy}{fix}")
    return "\n".join(lines or [f"  {'ok':<7}{name}{result.why}"])


def skipped_text(skipped: dict[str, list[str]]) -> str:
    """The checks that were skipped, a line for each reason."""
    return "\n".join(f"  {'-':<7}not checked: {', '.join(checks)}: {why}" for why, checks in skipped.items())


def doctor_summary(found: dict[str, Any]) -> str:
    """How many faults the doctor found, and how many of them it can fix."""
    faults = [fault for check in found["checks"] for fault in check["faults"]]
    if not faults:
        return f"\n{found['home']}: nothing is wrong"
    fixable = sum(fault["fixable"] for fault in faults)
    hint = f"; `repartee doctor --fix` fixes {fixable} of them" if fixable else ""
    return f"\n{found['home']}: {len(faults)} fault{'s' if len(faults) > 1 else ''}{hint}"
