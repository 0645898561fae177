"""docs/cli.md: the help text of every command, as the command itself prints it.

python -m cli.pages > docs/cli.md
"""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from cli.app import INTERRUPTED, app

COLUMNS = 78  # of a help text in a terminal of 80 columns or more; the page does not depend on its maker's

HEAD = f"""# The command

Each command with its arguments and options, as `repartee COMMAND --help` prints them. Made by `make docs`.

## Exit status

* `0`: the command has done its work. A run ends with 0 whether it promotes its model, refuses it, finds
  everything unchanged, is skipped because another training is under way, or trains without registering
  because MLflow does not answer.
* `1`: anything that the next two do not cover; also `repartee doctor` where it has found a fault.
* `2`: the input is wrong. One line on standard error says what is wrong, where, and the remedy.
* `{INTERRUPTED}`: the command was interrupted with Ctrl-C. The same command continues where it stopped.

With `--json` the only text on standard output is one JSON object; progress goes to standard error.
"""


def cli_page() -> str:
    """The page as Markdown."""
    command = typer.main.get_command(app)
    context = command.make_context("repartee", [], resilient_parsing=True, terminal_width=COLUMNS)
    return "\n".join([HEAD, *_sections(command, context)])


# Typer carries its own click, whose classes have no public name.
def _sections(command: Any, context: Any) -> Iterator[str]:
    """A section for the command, then one for each of its subcommands."""
    yield f"## {context.command_path}\n\n```\n{command.get_help(context).strip()}\n```\n"
    if isinstance(command, TyperGroup):
        for name, subcommand in command.commands.items():
            inner = subcommand.make_context(name, [], parent=context, resilient_parsing=True)
            yield from _sections(subcommand, inner)


if __name__ == "__main__":
    print(cli_page(), end="")
