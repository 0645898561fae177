"""The verbs for the registered versions of the model and for the champion."""

from typing import Annotated

import typer

from cli.help import CHAMPION, TALK
from cli.options import VERSION_HELP, Json, Line
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
    replies, the data, the run that trained the version, and the location of its files.
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
