"""Generates docs/cli.md: the help text of every command, as `repartee COMMAND --help` prints it.

python -m cli.pages > docs/cli.md
"""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from cli.app import INTERRUPTED, app

COLUMNS = 78  # the width of help texts, fixed so that the page does not depend on the terminal

HEAD = f"""# The command

The arguments and options of each command, as `repartee COMMAND --help` prints them. `make docs` generates
this page.

## Exit status

* `0`: the command succeeded. A run also exits with 0 if its model is refused, if nothing has changed, if the
  run is skipped because another run of the same model line is in progress, or if the model cannot be
  registered because MLflow does not answer.
* `1`: any other failure. `repartee doctor` also exits with 1 if a fault remains.
* `2`: the input is invalid. One line on standard error says what is wrong, where, and how to fix it.
* `{INTERRUPTED}`: the command was interrupted with Ctrl-C. Run the same command again to continue.

With `--json` the only text on standard output is one JSON object; progress goes to standard error.
"""


def cli_page() -> str:
    """The text of docs/cli.md, in Markdown."""
    command = typer.main.get_command(app)
    context = command.make_context("repartee", [], resilient_parsing=True, terminal_width=COLUMNS)
    return "\n".join([HEAD, *_sections(command, context)])


# Typer bundles its own copy of click, whose classes have no public names.
def _sections(command: Any, context: Any) -> Iterator[str]:
    """Yield a section for the command, then one section for each of its subcommands."""
    yield f"## {context.command_path}\n\n```\n{command.get_help(context).strip()}\n```\n"
    if isinstance(command, TyperGroup):
        for name, subcommand in command.commands.items():
            inner = subcommand.make_context(name, [], parent=context, resilient_parsing=True)
            yield from _sections(subcommand, inner)


if __name__ == "__main__":
    print(cli_page(), end="")
