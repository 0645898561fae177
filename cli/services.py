"""The verbs for the services on this machine and for the state of the installation."""

from contextlib import ExitStack
from typing import Annotated

import typer

from cli.help import SERVICES
from cli.options import Json
from cli.terminal.output import print_result
from cli.terminal.wrapping import fit
from console import say, signs_of_life

app = typer.Typer(rich_markup_mode=None)


@app.command(rich_help_panel=SERVICES)
def up() -> None:
    """Start Prefect, MLflow and a worker on this machine.

    The command also creates the deployments, restarts services that fail, and runs until Ctrl-C or
    `repartee down` ends it. If PREFECT_API_URL or MLFLOW_TRACKING_URI is set, the server at that address is
    used instead of a local server.
    """
    with signs_of_life():
        from deployments.local import up

    up.up(lambda text: say(fit(text)))


@app.command(rich_help_panel=SERVICES)
@signs_of_life()
def status(as_json: Json = False) -> None:
    """Show the champion, runs, services and disk space."""
    from cli.terminal import tables
    from deployments import status

    found = status.status()
    print_result(found, tables.status_table(found), as_json)


@app.command(rich_help_panel=SERVICES)
@signs_of_life()
def prune(
    days: Annotated[
        float, typer.Option(help="Remove what no run has used for this many days.", min=0, metavar="DAYS")
    ] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without this option, only list.")] = False,
    as_json: Json = False,
) -> None:
    """Free disk space: list what no run has used for a month, and delete it with --yes.

    Only stored outputs of stages, and training runs and downloads that were interrupted, are deleted. The
    models in service and the champions before them keep their data, no registered version is deleted, and
    the next run of a command that has run in the last month is as it would have been.
    """
    from cli.terminal import tables
    from deployments.prune import prune

    found = prune(days, deletes=yes)
    listed = {"deleted": yes, "days": days, "kinds": [vars(each) for each in found]}
    print_result(listed, tables.prune_table(listed), as_json)


@app.command(rich_help_panel=SERVICES)
def logs(
    run: Annotated[
        str | None,
        typer.Argument(
            help="The run: its name, a part of its name, or the beginning of its id.",
            show_default="the run that started last",
            metavar="RUN",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Print further lines until the run has ended.")
    ] = False,
) -> None:
    """Show the log of a run.

    A run is recorded whether it was started by `repartee run`, by a schedule or from the dashboard. The logs
    of the services are files in the folder `services` of the home.
    """
    with ExitStack() as waiting:
        waiting.enter_context(signs_of_life())
        from deployments import logs

        for line in logs.lines_of_run(run, follow=follow):
            if follow:
                waiting.close()  # from now on, silence only means that the run logs nothing
            say(line)


@app.command(rich_help_panel=SERVICES)
@signs_of_life()
def down() -> None:
    """End everything that `repartee up` started.

    A training run in progress first writes a checkpoint, from which the next run resumes.
    """
    from deployments.local import up

    say(up.down())


@app.command(rich_help_panel=SERVICES)
@signs_of_life()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Fix the faults that can be fixed without losing data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the installation and suggest fixes. The exit status is 1 if a fault remains.

    The command checks the packages, the disk, the databases, the servers, the deployments and the runs. Each
    fault is shown with the command that fixes it.
    """
    from cli.terminal import tables
    from deployments.doctor import examination

    skipped: dict[str, list[str]] = {}  # the checks that were skipped, by the reason

    def report(result: examination.CheckResult) -> None:
        if result.state == "unseen":
            skipped.setdefault(result.why, []).append(result.check)
        elif not as_json:
            say(fit(tables.check_text(result)))

    found = examination.doctor(fix, report)
    if not as_json:
        say(fit(tables.skipped_text(skipped)))
    print_result(found, tables.doctor_summary(found), as_json)
    raise typer.Exit(0 if found["healthy"] else 1)
