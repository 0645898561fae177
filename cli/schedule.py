"""`repartee schedule`: the verbs that say what is retrained when."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.help import print_help_without_a_verb
from cli.options import Changes, Corpus, Init, Json, Line, Recipe
from cli.output import print_result

if TYPE_CHECKING:  # this module loads Prefect, which --help does not need
    from deployments.schedules import Schedule

EXAMPLE = "`repartee schedule add nightly --cron '0 3 * * *'`"

app = typer.Typer(help="Say what is retrained when.", rich_markup_mode=None)
app.callback(invoke_without_command=True)(print_help_without_a_verb)

Name = Annotated[str, typer.Argument(help="The name of the schedule.", metavar="NAME")]


@app.command()
def add(
    name: Name,
    cron: Annotated[
        str,
        typer.Option(
            help="When it runs: minute, hour, day, month and weekday; '0 3 * * *' is daily at 03:00.",
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
            help="The time limit of each run. A longer run ends as failed, and the next run resumes it.",
            metavar="H",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Add a schedule.

    The worker of `repartee up` starts its runs. The dashboard shows the schedule on the page of the
    deployment `retrain`, where you can edit it.
    """
    from deployments import schedules
    from flows.recipes import configure

    limit = [] if max_hours is None else [f"max_hours={max_hours:g}"]
    config = configure(recipe, corpus, [*(changes or []), *limit], init, line)
    schedule = schedules.add(name, cron, timezone, config)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command("list")
def list_all(as_json: Json = False) -> None:
    """List the schedules, with the next run of each."""
    from deployments import schedules

    found = schedules.list_schedules()
    print_result({"schedules": [vars(each) for each in found]}, _table(found), as_json)


@app.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Switch a schedule off, until `resume`."""
    from deployments import schedules

    schedule = schedules.set_active(name, active=False)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Switch a paused schedule on again."""
    from deployments import schedules

    schedule = schedules.set_active(name, active=True)
    print_result(vars(schedule), _text(schedule), as_json)


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete a schedule. Runs that have already started continue."""
    from deployments import schedules

    schedule = schedules.remove(name)
    print_result(vars(schedule), f"the schedule {schedule.name} is deleted", as_json)


@app.command()
def run(name: Name, as_json: Json = False) -> None:
    """Start a run of a schedule now, on the worker of `repartee up`."""
    from deployments import schedules

    started = schedules.run_now(name)
    print_result(started, f"a run of {name} starts on the worker: {started['url']}", as_json)


def _table(schedules: "list[Schedule]") -> str:
    """The schedules, one per row."""
    from cli.tables import text_table

    rows = [
        {
            "name": each.name,
            "line": each.line,
            "when": f"{each.when} ({each.timezone})",
            "next run": each.next_run or ("not planned yet" if each.active else "paused"),
            "what": _parameters_text(each.parameters),
        }
        for each in schedules
    ]
    return text_table(rows) or f"there is no schedule; {EXAMPLE} adds one"


def _text(schedule: "Schedule") -> str:
    """One schedule: when it runs, what it runs, and its next run."""
    when = f"next run {schedule.next_run}" if schedule.next_run else "not planned yet"
    return (
        f"{schedule.name}: {schedule.when} ({schedule.timezone}), {when if schedule.active else 'paused'}\n"
        f"  line {schedule.line}, {_parameters_text(schedule.parameters)}"
    )


def _parameters_text(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in parameters.items()) or "recipe small"
