"""The help and the version of the command: callbacks for Typer, and the groups in which verbs are listed."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

TRAIN, TALK, CHAMPION, SERVICES = "Train", "Talk and compare", "The champion", "Services"
"""The groups in which the help lists the verbs."""


def print_help_without_a_verb(context: typer.Context) -> None:
    """The callback of a command group: print the group's help if no verb is given."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def print_version(requested: bool) -> None:
    """The callback of `--version`."""
    if requested:
        from importlib.metadata import version

        print(f"repartee {version('repartee')}")
        raise typer.Exit


def root_options(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    """The callback of the whole command: print its help if no verb is given."""
    print_help_without_a_verb(context)


class HelpByGroups(TyperGroup):
    """Lists the verbs in groups. Each verb is followed by the complete first paragraph of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                group = str(getattr(command, "rich_help_panel", "Commands"))
                summary = " ".join((command.help or "").split("\n\n")[0].split())
                groups.setdefault(group, []).append((name, summary))
        for group, verbs in groups.items():
            with formatter.section(group):
                formatter.write_dl(verbs)
