"""The verbs for the registered versions of the model and for the champion."""

from typing import Annotated

import typer

from cli.help import CHAMPION, TALK
from cli.options import VERSION_HELP, Json, Line, Quiet
from cli.terminal.display import progress
from cli.terminal.output import print_json, print_result
from console import signs_of_life

app = typer.Typer(rich_markup_mode=None)


@app.command(rich_help_panel=TALK)
@signs_of_life()
def models(
    upgrade: Annotated[
        bool,
        typer.Option(
            "--upgrade",
            help="Upgrade older versions: add the files that MLflow needs to open and serve a version, where "
            "they are missing.",
        ),
    ] = False,
    line: Line = None,
    as_json: Json = False,
) -> None:
    """List the registered versions of the model.

    Each row shows the aliases, the scores on the test split, the recipe and the corpus of a version. The
    newest version comes first.
    """
    from cli import versions
    from cli.terminal import tables

    if upgrade:
        upgrades = versions.upgrade_versions(line)
        print_result({"upgraded": upgrades}, tables.upgrade_lines(upgrades), as_json)
        return
    listed = versions.list_versions(line)
    print_result(listed, tables.version_table(listed), as_json)


@app.command(rich_help_panel=TALK)
def show(
    ref: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="VERSION")] = "champion",
    line: Line = None,
    as_json: Json = False,
) -> None:
    """Show one version of the model.

    Shows the verdict of the gate, the scores on the test split beside those of the previous champion, sample
    replies, the data, when the version was the champion, and the location of its files. `repartee lineage`
    shows where it comes from.
    """
    with signs_of_life():
        from cli.show import describe_version, print_version

        shown = describe_version(ref, line)
    if as_json:
        print_json(shown.to_json())
    else:
        print_version(shown)


@app.command(rich_help_panel=TALK)
@signs_of_life()
def compare(
    first: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="VERSION")] = "previous",
    second: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="OTHER")] = "champion",
    line: Line = None,
    as_json: Json = False,
) -> None:
    """Compare two versions of the model.

    Shows which settings, data and code differ, the scores of both versions on the test split, by how many
    bits per byte the second version is better, with an interval, and replies of both to the same contexts.
    Without arguments, the previous champion is compared with the champion.
    """
    from cli.comparison import compare_versions
    from cli.terminal.comparison import comparison_text
    from cli.terminal.wrapping import fit

    compared = compare_versions(first, second, line)
    print_result(compared, fit(comparison_text(compared)), as_json)


@app.command(rich_help_panel=TALK)
@signs_of_life()
def lineage(
    ref: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="VERSION")] = "champion",
    line: Line = None,
    as_json: Json = False,
) -> None:
    """Show where a version comes from, and when and why it was in service.

    Shows the recipe, the commit of the code and whether files were modified, the trunks or initial models
    from which the training began, the runs in Prefect and MLflow, the decision of the gate, the times in
    which the version was the champion, and the digest of each output from which it was made.
    """
    from cli.provenance.lineage import trace_version
    from cli.terminal.lineage import lineage_text

    traced = trace_version(ref, line)
    print_result(traced.to_json(), lineage_text(traced), as_json)


@app.command(rich_help_panel=TALK)
def reproduce(
    ref: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="VERSION")] = "champion",
    line: Line = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a version again from the same inputs, and compare the weights bit by bit.

    The corpus and the initial model are taken from the store, all other outputs are built again and compared
    with those recorded, and the time limit of the training is repeated step by step. The exit status is 0 if
    the weights are equal, and 1 if they differ; then the first stage whose output differs is named, with what
    has changed: settings, inputs, libraries, code or machine. The version, the champion and the records of
    runs do not change. To continue an interrupted reproduction, run the same command again.
    """
    with progress(quiet=quiet):
        from cli.provenance.reproduce import reproduce_version
        from cli.terminal.reproduction import reproduction_text

        result = reproduce_version(ref, line)
    print_result(result, reproduction_text(result), as_json)
    raise typer.Exit(0 if result["outcome"] == "equal" else 1)


@app.command(rich_help_panel=CHAMPION)
@signs_of_life()
def promote(
    ref: Annotated[str, typer.Argument(help=VERSION_HELP, metavar="VERSION")],
    why: Annotated[
        str | None,
        typer.Option(help="The reason for the change, shown by `repartee history`.", metavar="TEXT"),
    ] = None,
    line: Line = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion.

    The files of the version are verified first. The gate's verdict is ignored.
    """
    from cli import champion
    from cli.terminal import tables

    promotion = champion.promote(ref, why, line)
    print_result(promotion, tables.promotion_text(promotion), as_json)


@app.command(rich_help_panel=CHAMPION)
@signs_of_life()
def rollback(line: Line = None, as_json: Json = False) -> None:
    """Make the previous champion the champion again.

    No model is trained. A second rollback undoes the first one.
    """
    from cli import champion
    from cli.terminal import tables

    promotion = champion.rollback(line)
    print_result(promotion, tables.promotion_text(promotion), as_json)


@app.command(rich_help_panel=CHAMPION)
@signs_of_life()
def history(
    at: Annotated[
        str | None,
        typer.Option(
            help="List only the changes up to the end of this date (2026-11-29) or up to this time "
            "(2026-11-29T06:30), in UTC; the first row is the champion at that time.",
            metavar="DATE",
        ),
    ] = None,
    line: Line = None,
    as_json: Json = False,
) -> None:
    """List all changes of the champion.

    Each row shows the time of a change and the reason for it. The newest change comes first.
    """
    from cli import champion
    from cli.terminal import tables

    moment = None if at is None else champion.moment_of(at)
    entries = champion.history(line, moment)
    print_result({"history": entries}, tables.history_table(entries, at), as_json)
