"""`repartee schedule`: the verbs that manage the schedules for retraining."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.help import print_help_without_a_verb
from cli.options import Changes, Corpus, Init, Json, Line, Recipe
from cli.terminal.output import print_result
from console import signs_of_life

if TYPE_CHECKING:  # this import loads Prefect, which --help does not need
    from deployments.schedules import Schedule

EXAMPLE = "`repartee schedule add nightly --cron '0 3 * * *'`"

app = typer.Typer(help="Manage the schedules for retraining.", rich_markup_mode=None)
app.callback(invoke_without_command=True)(print_help_without_a_verb)

Name = Annotated[str, typer.Argument(help="The name of the schedule.", metavar="NAME")]


@app.command()
@signs_of_life()
def add(
    name: Name,
    cron: Annotated[
        str,
        typer.Option(
            help="When runs start, as minute, hour, day of the month, month and weekday: '0 3 * * *' means "
            "daily at 03:00.",
            metavar="CRON",
        ),
    ],
    timezone: Annotated[
        str, typer.Option(help="The time zone of CRON, for example Europe/Berlin.", metavar="ZONE")
    ] = "UTC",
    recipe: Recipe = "small",
    corpus: Corpus = None,
    init: Init = None,
    line: Line = None,
    changes: Changes = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            help="The time limit of each run, in hours. A run that reaches the limit ends as failed; the "
            "next run resumes its training.",
            metavar="H",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a schedule.

    The worker of `repartee up` starts the scheduled runs. By default, each run goes on from the trunk that
    the run before it left (`--init trunk`), so that the gains of several nights add up; `--init scratch`
    starts each run from random weights. A pretrained network has no trunk.

    Prefect's dashboard shows the schedule on the page of the deployment `retrain`; you can edit it there.
    """
    from deployments import schedules
    from flows.recipes import configure_schedule

    limit = [] if max_hours is None else [f"max_hours={max_hours:g}"]
    config = configure_schedule(recipe, corpus, [*(changes or []), *limit], init, line)
    schedule = schedules.add(name, cron, timezone, config)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command("list")
@signs_of_life()
def list_all(as_json: Json = False) -> None:
    """List the schedules, with the next run of each."""
    from deployments import schedules

    found = schedules.list_schedules()
    print_result({"schedules": [vars(each) for each in found]}, _table(found), as_json)


@app.command()
@signs_of_life()
def pause(name: Name, as_json: Json = False) -> None:
    """Switch a schedule off until you resume it."""
    from deployments import schedules

    schedule = schedules.set_active(name, active=False)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command()
@signs_of_life()
def resume(name: Name, as_json: Json = False) -> None:
    """Switch a paused schedule on again."""
    from deployments import schedules

    schedule = schedules.set_active(name, active=True)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command()
@signs_of_life()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete a schedule. Runs that have already started continue."""
    from deployments import schedules

    schedule = schedules.remove(name)
    print_result(vars(schedule), f"the schedule {schedule.name} is deleted", as_json)


@app.command()
@signs_of_life()
def run(name: Name, as_json: Json = False) -> None:
    """Start a run of a schedule now, on the worker of `repartee up`."""
    from deployments import schedules

    started = schedules.run_now(name)
    print_result(started, f"the worker will start a run of {name}: {started['url']}", as_json)


def _table(schedules: "list[Schedule]") -> str:
    """The schedules, one per row, or one below the other if the terminal is too narrow for the rows."""
    from cli.terminal.tables import text_table
    from cli.terminal.wrapping import fits

    rows = [
        {
            "name": each.name,
            "line": each.line,
            "when": f"{each.when} ({each.timezone})",
            "next run": _next_run(each),
            "what": each.what,
        }
        for each in schedules
    ]
    table = text_table(rows) or f"there is no schedule; {EXAMPLE} adds one"
    return table if fits(table) else "\n".join(map(_text, schedules)) or table


def _text(schedule: "Schedule") -> str:
    """One schedule: when it runs, what it runs, and its next run."""
    return (
        f"{schedule.name}: {schedule.when} ({schedule.timezone}), next run: {_next_run(schedule)}\n"
        f"  line {schedule.line}, {schedule.what}"
    )


def _next_run(schedule: "Schedule") -> str:
    from cli.terminal.tables import moment_text

    if not schedule.active:
        return "none, because it is paused"
    return moment_text(schedule.next_run, schedule.timezone) if schedule.next_run else "not planned yet"
